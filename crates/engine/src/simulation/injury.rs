//! What may happen to the metadata folder while no daemon runs.

use std::fs;
use std::path::PathBuf;

use super::steps::Injury;
use super::world::World;

impl World {
    pub(super) fn injure(&mut self, injury: Injury) {
        let map = self.options.meta_path.join("walstream.map");
        if self.daemon.is_some() || !self.options.meta_path.exists() {
            // For an injury to come.
            self.old_map = fs::read(map).ok().or(self.old_map.take());
            return;
        }
        let mut local = self.local_files();
        // Whoever loses his own books depends on the store's: a late listing would have him fenced.
        self.store.heal();
        match injury {
            Injury::FolderGone => return self.forget_meta(),
            Injury::NewestTorn => {
                let newest = local.pop();
                self.lose(newest.as_slice());
                newest.iter().for_each(|path| self.damage(path));
            }
            Injury::MiddleGone => {
                local.pop();
                if local.is_empty() {
                    return;
                }
                let path = local.swap_remove(self.random.below(local.len()));
                self.lose(std::slice::from_ref(&path));
                fs::remove_file(path).unwrap();
            }
            Injury::MapDamaged => self.damage(&map),
            Injury::MapGone => {
                let _ = fs::remove_file(map);
            }
            Injury::MapStale => {
                if let Some(old) = &self.old_map {
                    fs::write(map, old).unwrap();
                }
            }
        }
        self.lost = Some("the metadata folder was damaged");
    }

    /// The whole folder is gone.
    pub(super) fn forget_meta(&mut self) {
        let local = self.local_files();
        self.lose(&local);
        let _ = fs::remove_dir_all(&self.options.meta_path);
        self.lost = Some("the metadata folder is gone");
    }

    fn lose(&mut self, files: &[PathBuf]) {
        self.has_holes |= files.iter().any(|path| !self.is_on_replica(path));
    }

    fn damage(&mut self, path: &PathBuf) {
        let mut content = fs::read(path).unwrap_or_default();
        if content.is_empty() {
            return;
        }
        let at = self.random.below(content.len());
        match self.random.below(3) {
            0 => content.truncate(at),
            1 => content[at..].fill(0),
            _ => content[at] ^= 1 << self.random.below(8),
        }
        fs::write(path, content).unwrap();
    }
}

//! An application that writes without pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use walstream_test_support::{App, Seed};

/// A writer in a thread of its own.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<App>,
}

impl Traffic {
    pub(crate) fn start(app: App, mut seed: Seed) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writer = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                one_step(&app, &mut seed);
            }
            app
        });
        Traffic { stop, writer }
    }

    /// Ends the writer after its current commit; its connection stays open.
    pub(crate) fn stop(self) -> App {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.join().unwrap()
    }
}

fn one_step(app: &App, seed: &mut Seed) {
    match seed.in_range(0..100) {
        0..70 => app.sell(seed.in_range(1..8), seed.in_range(1..2000)),
        70..90 => app
            .execute(&format!("UPDATE item SET name = name || '*' WHERE id % 40 = {}", seed.in_range(0..40))),
        // Keeps the database at some hundred pages, so that restoring every TXID stays quick.
        90..98 => app.execute("DELETE FROM item WHERE id < (SELECT max(id) - 300 FROM item)"),
        98 => drop(app.checkpoint("PASSIVE")),
        _ => drop(app.checkpoint("TRUNCATE")),
    }
    std::thread::sleep(seed.pause_below(Duration::from_millis(20)));
}

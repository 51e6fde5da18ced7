//! What may happen next, and how likely it is.

use std::io;
use std::time::Duration;

use super::application::{DEEDS, Deed};
use super::disk::{Actor, Failure};
use super::random::Random;
use super::store::Outage;

/// What may happen next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Act(Deed),
    OpenApplication,
    CloseApplication,
    KillApplication,
    Start,
    Stop,
    Kill,
    Work(Work),
    /// The application acts in the midst of it.
    Disturbed(Work),
    DisturbedStart,
    CutPower,
    DiskFails(Actor, Failure),
    DiskHeals,
    StoreFails(Outage),
    StoreHeals,
    BackUp,
    Replace,
    Overwrite,
    Recreate,
    RemoveWal,
    Rebuild,
    NoteMachine,
    SetMachineBack,
    Injure(Injury),
    Quiesce,
}

/// A piece of the daemon's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Contact,
    Capture,
    CaptureAll,
    Checkpoint,
    Rest,
    SaveMap,
    Upload,
    Pin,
    UploadPinned,
    Compact(u8),
    Retain,
}

/// What may happen to the metadata folder while no daemon runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Injury {
    FolderGone,
    NewestTorn,
    MiddleGone,
    MapDamaged,
    MapGone,
    MapStale,
}

const WORK: &[(usize, Work)] = &[
    (2, Work::Contact),
    (12, Work::Capture),
    (8, Work::CaptureAll),
    (10, Work::Checkpoint),
    (1, Work::Rest),
    (3, Work::SaveMap),
    (12, Work::Upload),
    (2, Work::Pin),
    (3, Work::UploadPinned),
    (3, Work::Compact(1)),
    (2, Work::Compact(2)),
    (2, Work::Retain),
];

const DISTURBED: &[(usize, Work)] =
    &[(4, Work::Capture), (4, Work::CaptureAll), (8, Work::Checkpoint), (1, Work::SaveMap), (2, Work::Pin)];

const INJURIES: &[(usize, Injury)] = &[
    (2, Injury::FolderGone),
    (3, Injury::NewestTorn),
    (2, Injury::MiddleGone),
    (2, Injury::MapDamaged),
    (1, Injury::MapGone),
    (2, Injury::MapStale),
];

impl Work {
    pub(super) fn waits_for_store(self) -> bool {
        matches!(self, Work::Contact | Work::Upload | Work::UploadPinned | Work::Compact(_) | Work::Retain)
    }
}

impl Step {
    pub(super) fn choose(random: &mut Random) -> Self {
        let deed = random.weighed(DEEDS);
        let work = random.weighed(WORK);
        let disturbed = random.weighed(DISTURBED);
        let injury = random.weighed(INJURIES);
        let actor = random.weighed(&[(3, Actor::Engine), (2, Actor::Application)]);
        let (failure, outage) = (failure(random), outage(random));
        random.weighed(&[
            (100, Step::Act(deed)),
            (80, Step::Work(work)),
            (30, Step::Disturbed(disturbed)),
            (12, Step::OpenApplication),
            (2, Step::CloseApplication),
            (2, Step::KillApplication),
            (14, Step::Start),
            (3, Step::DisturbedStart),
            (3, Step::Stop),
            (4, Step::Kill),
            (2, Step::CutPower),
            (7, Step::DiskFails(actor, failure)),
            (3, Step::DiskHeals),
            (6, Step::StoreFails(outage)),
            (3, Step::StoreHeals),
            (3, Step::BackUp),
            (2, Step::Replace),
            (1, Step::Overwrite),
            (1, Step::Recreate),
            (2, Step::RemoveWal),
            (2, Step::Rebuild),
            (2, Step::NoteMachine),
            (1, Step::SetMachineBack),
            (5, Step::Injure(injury)),
            (6, Step::Quiesce),
        ])
    }

    /// Its name, for counting.
    pub(super) fn kind(&self) -> String {
        let full = format!("{self:?}");
        let end = full.find('{').unwrap_or(full.len());
        full[..end].trim_end_matches(['(', ' ']).to_owned()
    }
}

fn failure(random: &mut Random) -> Failure {
    let bound = random.pick(&[3, 12, 40]);
    Failure {
        after: random.below(bound),
        kind: random.pick(&[io::ErrorKind::StorageFull, io::ErrorKind::Other]),
        done: random.percent(30),
        for_good: random.percent(50),
    }
}

fn outage(random: &mut Random) -> Outage {
    let (after, done) = (random.below(6), random.percent(50));
    let time = Duration::from_millis(random.below(8000) as u64);
    random.weighed(&[
        (6, Outage::Once { after, done }),
        (3, Outage::Killed { after, done }),
        (2, Outage::Lasting),
        (2, Outage::Hanging { done }),
        (1, Outage::Slow { time }),
        (1, Outage::LateListing),
    ])
}

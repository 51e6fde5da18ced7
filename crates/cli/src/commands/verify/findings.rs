//! What `walstream verify -json` prints: one object with everything that was found.

use serde::Serialize;
use walstream_engine::restore::{Restored, Verified};
use walstream_engine::verify::chain::Stretch;
use walstream_engine::verify::levels::Finding;
use walstream_engine::verify::report::{Damage, Deep, Disagreement, LegacyReport, LevelCount, Report};
use walstream_ltx::{FileName, Level, TxidRange};

use crate::output;

/// What `-json` prints.
#[derive(Serialize)]
pub(super) struct Findings {
    replica: &'static str,
    location: String,
    sound: bool,
    problem: Option<String>,
    levels: Vec<LevelRow>,
    files_without_database_checksum: usize,
    damaged: Vec<DamagedFile>,
    disagreements: Vec<DisagreementRow>,
    findings: Vec<FindingRow>,
    restorable: Vec<StretchRow>,
    missing: Vec<Range>,
    unreachable_txids: Vec<String>,
    newest: Newest,
    legacy: Option<LegacyRow>,
    deep: Option<DeepRow>,
}

#[derive(Serialize)]
struct LevelRow {
    level: u8,
    files: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct DamagedFile {
    level: u8,
    name: String,
    size: u64,
    reason: String,
}

#[derive(Serialize)]
struct DisagreementRow {
    txid: String,
    files: [NamedFile; 2],
}

#[derive(Serialize)]
struct NamedFile {
    level: u8,
    name: String,
}

#[derive(Serialize)]
struct FindingRow {
    level: u8,
    r#type: String,
    #[serde(flatten)]
    txids: Range,
    message: String,
}

#[derive(Serialize)]
struct StretchRow {
    #[serde(flatten)]
    txids: Range,
    from: String,
    to: String,
    states: usize,
}

#[derive(Serialize)]
struct Range {
    min_txid: String,
    max_txid: String,
}

#[derive(Serialize)]
struct Newest {
    listed_txid: String,
    restorable_txid: Option<String>,
    timestamp: Option<String>,
}

#[derive(Serialize)]
struct LegacyRow {
    objects: usize,
    bytes: u64,
    newest: String,
    damaged: Vec<LegacyObjectRow>,
    holes: Vec<String>,
}

#[derive(Serialize)]
struct LegacyObjectRow {
    name: String,
    reason: String,
}

#[derive(Serialize)]
struct DeepRow {
    restored: bool,
    txid: Option<String>,
    proven_by: Option<&'static str>,
    integrity_check: Option<&'static str>,
    problem: Option<String>,
}

impl Findings {
    /// Everything in a report, in plain words and numbers.
    pub(super) fn new(report: &Report, replica: &'static str) -> Self {
        let problem = report.problem();
        Findings {
            replica,
            location: report.location.clone(),
            sound: problem.is_none(),
            problem,
            levels: levels(report),
            files_without_database_checksum: report.without_digest,
            damaged: damaged(report),
            disagreements: disagreements(report),
            findings: findings(report),
            restorable: report.stretches.iter().map(stretch).collect(),
            missing: report.holes.iter().copied().map(Range::from).collect(),
            unreachable_txids: report.unreachable.iter().map(ToString::to_string).collect(),
            newest: Newest {
                listed_txid: report.listed.to_string(),
                restorable_txid: report.newest.map(|state| state.txid.to_string()),
                timestamp: report.newest.map(|state| output::millis(state.created_at)),
            },
            legacy: report.legacy.as_ref().map(legacy),
            deep: report.deep.as_ref().map(deep),
        }
    }
}

impl From<TxidRange> for Range {
    fn from(txids: TxidRange) -> Self {
        Range { min_txid: txids.min().to_string(), max_txid: txids.max().to_string() }
    }
}

impl NamedFile {
    fn new((level, txids): (Level, TxidRange)) -> Self {
        NamedFile { level: level.get(), name: FileName(txids).to_string() }
    }
}

fn levels(report: &Report) -> Vec<LevelRow> {
    let row =
        |count: &LevelCount| LevelRow { level: count.level.get(), files: count.files, bytes: count.bytes };
    report.levels.iter().map(row).collect()
}

fn damaged(report: &Report) -> Vec<DamagedFile> {
    let row = |damage: &Damage| DamagedFile {
        level: damage.file.level.get(),
        name: FileName(damage.file.txids).to_string(),
        size: damage.file.size,
        reason: damage.reason.clone(),
    };
    report.damaged.iter().map(row).collect()
}

fn disagreements(report: &Report) -> Vec<DisagreementRow> {
    let row = |found: &Disagreement| DisagreementRow {
        txid: found.txid.to_string(),
        files: [found.one, found.other].map(NamedFile::new),
    };
    report.disagreements.iter().map(row).collect()
}

fn findings(report: &Report) -> Vec<FindingRow> {
    let row = |finding: &Finding| FindingRow {
        level: finding.level.get(),
        r#type: finding.kind.to_string(),
        txids: finding.txids.into(),
        message: finding.to_string(),
    };
    report.findings.iter().map(row).collect()
}

fn stretch(&Stretch { first, last, states }: &Stretch) -> StretchRow {
    StretchRow {
        txids: Range { min_txid: first.txid.to_string(), max_txid: last.txid.to_string() },
        from: output::millis(first.created_at),
        to: output::millis(last.created_at),
        states,
    }
}

fn legacy(report: &LegacyReport) -> LegacyRow {
    let damaged = report.damaged.iter();
    LegacyRow {
        objects: report.objects,
        bytes: report.bytes,
        newest: output::millis(report.newest),
        damaged: damaged
            .map(|object| LegacyObjectRow { name: object.name.clone(), reason: object.reason.clone() })
            .collect(),
        holes: report.holes.clone(),
    }
}

fn deep(outcome: &Deep) -> DeepRow {
    match outcome {
        Ok(restored) => DeepRow {
            restored: true,
            txid: Some(restored.txid).filter(|txid| !txid.is_zero()).map(|txid| txid.to_string()),
            proven_by: Some(proof(restored)),
            integrity_check: Some("ok"),
            problem: None,
        },
        Err(problem) => DeepRow {
            restored: false,
            txid: None,
            proven_by: None,
            integrity_check: None,
            problem: Some(problem.clone()),
        },
    }
}

/// What proved a restored database.
pub(super) fn proof(restored: &Restored) -> &'static str {
    match restored.verified {
        Verified::RollingChecksum => "checksum of the database",
        Verified::FileChecksums => "checksums of the files",
        Verified::LegacyChecksums => "checksums of snapshot and WAL",
    }
}

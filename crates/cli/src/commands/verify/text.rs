//! What `walstream verify` tells a person.

use walstream_engine::verify::chain::Stretch;
use walstream_engine::verify::levels::Finding;
use walstream_engine::verify::report::{Damage, Disagreement, LegacyReport, LevelCount, Report};
use walstream_ltx::{FileName, TxidRange};

use super::findings::proof;
use crate::output;

/// The report for a person.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    if !report.levels.is_empty() {
        let rows: Vec<_> = report.levels.iter().map(level).collect();
        text += &output::table(["level", "files", "size"], &rows);
        text += &section("Damaged files", report.damaged.iter().map(damaged));
        text += &section("Files of different histories", report.disagreements.iter().map(disagreement));
        text += &section("Levels with gaps or overlaps", report.findings.iter().map(finding));
        text += &section("Missing TXIDs", report.holes.iter().copied().map(range_text));
        text += &section("Can be restored", report.stretches.iter().map(stretch));
    }
    text += &section("Backup of Litestream 0.3", report.legacy.iter().flat_map(legacy_lines));
    text + "\n" + &verdict(report)
}

fn level(count: &LevelCount) -> [String; 3] {
    [count.level.to_string(), count.files.to_string(), output::human_size(count.bytes)]
}

/// A headline with lines below it; nothing if there are none.
fn section(headline: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.map(|line| format!("  {line}\n")).collect();
    if lines.is_empty() { lines } else { format!("\n{headline}:\n{lines}") }
}

fn damaged(damage: &Damage) -> String {
    format!("level {}, {}: {}", damage.file.level, FileName(damage.file.txids), damage.reason)
}

fn disagreement(found: &Disagreement) -> String {
    let [one, other] =
        [found.one, found.other].map(|(level, txids)| format!("level {level}, {}", FileName(txids)));
    format!("{one} and {other} do not mean the same TXID {}", found.txid)
}

fn finding(finding: &Finding) -> String {
    format!("level {}, {}: {finding}", finding.level, finding.kind)
}

fn range_text(txids: TxidRange) -> String {
    match txids.min() == txids.max() {
        true => txids.min().to_string(),
        false => format!("{} to {}", txids.min(), txids.max()),
    }
}

fn stretch(&Stretch { first, last, states }: &Stretch) -> String {
    let [from, to] = [first, last].map(|state| output::seconds(state.created_at));
    let noun = if states == 1 { "state" } else { "states" };
    format!("TXID {} to {}, {from} to {to}, {states} {noun}", first.txid, last.txid)
}

fn legacy_lines(report: &LegacyReport) -> Vec<String> {
    let size = output::human_size(report.bytes);
    let head =
        format!("{} objects, {size}, the newest of {}", report.objects, output::seconds(report.newest));
    let damaged = report.damaged.iter().map(|object| format!("damaged: {}: {}", object.name, object.reason));
    let holes = report.holes.iter().map(|hole| format!("missing: {hole}"));
    [head].into_iter().chain(damaged).chain(holes).collect()
}

/// What was proven, and how.
fn verdict(report: &Report) -> String {
    let mut lines = Vec::new();
    if let Some(state) = report.newest.filter(|_| report.has_newest()) {
        let time = output::seconds(state.created_at);
        lines.push(format!("The newest state, TXID {} of {time}, can be restored.", state.txid));
    }
    if report.without_digest > 0 {
        let files = report.files();
        lines.push(format!(
            "{} of {files} files carry no checksum of the database; their own checksums prove them.",
            report.without_digest
        ));
    }
    if report.legacy.is_some() && report.deep.is_none() {
        lines.push("The WAL frames of version 0.3 are checked by -deep alone.".to_owned());
    }
    match &report.deep {
        Some(Ok(restored)) => lines
            .push(format!("It was restored, proven by the {}, and passes integrity_check.", proof(restored))),
        Some(Err(reason)) => lines.push(format!("The restore failed: {reason}")),
        None => {}
    }
    if report.problem().is_none() {
        lines.push(format!("{} is sound.", report.location));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

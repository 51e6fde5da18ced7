//! The text format of Prometheus, read as strictly as its documentation allows.

use std::collections::{BTreeMap, BTreeSet};

/// Everything that one scrape gave.
#[derive(Debug, Default)]
pub struct Scrape {
    /// Families by name.
    pub families: BTreeMap<String, Family>,
}

/// The samples of one name.
#[derive(Debug, Default)]
pub struct Family {
    /// `counter`, `gauge`, `histogram`, …
    pub kind: String,
    /// As they stand there.
    pub samples: Vec<Sample>,
}

/// A value.
#[derive(Debug)]
pub struct Sample {
    /// With the suffix that samples of histograms have.
    pub name: String,
    /// By name.
    pub labels: BTreeMap<String, String>,
    /// The number.
    pub value: f64,
}

impl Scrape {
    /// Reads a text; whatever is not as it must be fails the test.
    #[track_caller]
    pub fn parse(text: &str) -> Scrape {
        assert!(text.ends_with('\n'), "the last line has no end");
        let (mut scrape, mut current, mut helped) = (Scrape::default(), String::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(is_name(name) && !help.is_empty(), "{line}");
                helped = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                assert_eq!(helped, name, "its help stands before a type");
                let kinds = ["counter", "gauge", "histogram", "summary", "untyped"];
                assert!(kinds.contains(&kind), "{line}");
                let family = Family { kind: kind.to_owned(), samples: Vec::new() };
                let before = scrape.families.insert(name.to_owned(), family);
                assert!(before.is_none(), "{name} is there twice");
                current = name.to_owned();
            } else {
                let sample = parse_sample(line).unwrap_or_else(|| panic!("no sample: {line:?}"));
                let family = scrape.families.get_mut(&current).expect("a type stands before its samples");
                assert!(belongs(&sample.name, &current, &family.kind), "{line} is below {current}");
                let twice = family.samples.iter().any(|s| s.name == sample.name && s.labels == sample.labels);
                assert!(!twice, "{line} is there twice");
                family.samples.push(sample);
            }
        }
        scrape.families.values().filter(|family| family.kind == "histogram").for_each(Family::check_buckets);
        scrape
    }

    /// The value of the only sample with these labels; `None` if there is none.
    #[track_caller]
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|v| v == value))
        };
        let found: Vec<_> = self.samples().filter(fits).collect();
        assert!(found.len() <= 1, "{name} {labels:?} is not one: {found:?}");
        found.first().map(|sample| sample.value)
    }

    /// All samples.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.families.values().flat_map(|family| &family.samples)
    }

    /// Every name that a query may ask for, with the suffixes of histograms.
    pub fn names(&self) -> BTreeSet<&str> {
        self.samples().map(|sample| sample.name.as_str()).collect()
    }
}

impl Family {
    /// The names of the labels of all its samples.
    pub fn labels(&self) -> BTreeSet<&str> {
        self.samples.iter().flat_map(|sample| sample.labels.keys()).map(String::as_str).collect()
    }

    /// Buckets ascend, and the last of them is the count.
    fn check_buckets(&self) {
        let mut last: BTreeMap<Vec<(&str, &str)>, (f64, f64)> = BTreeMap::new();
        for sample in &self.samples {
            let rest = sample.labels.iter().filter(|(label, _)| *label != "le");
            let key: Vec<_> = rest.map(|(label, value)| (label.as_str(), value.as_str())).collect();
            if sample.name.ends_with("_bucket") {
                let end = sample.labels["le"].replace("+Inf", "inf").parse().unwrap();
                let (before, count) = last.insert(key, (end, sample.value)).unwrap_or((f64::MIN, 0.0));
                assert!(before < end && count <= sample.value, "{sample:?}");
            } else if sample.name.ends_with("_count") {
                assert_eq!(last[&key], (f64::INFINITY, sample.value), "{sample:?}");
            }
        }
    }
}

fn belongs(sample: &str, family: &str, kind: &str) -> bool {
    let suffixes: &[&str] = match kind {
        "histogram" => &["_bucket", "_sum", "_count"],
        "summary" => &["", "_sum", "_count"],
        _ => &[""],
    };
    sample.strip_prefix(family).is_some_and(|suffix| suffixes.contains(&suffix))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

fn parse_sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = value.strip_prefix(' ')?.parse().ok()?;
    is_name(name).then(|| Sample { name: name.to_owned(), labels, value })
}

/// Labels up to the brace that ends them, and what follows it.
fn parse_labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, after) = rest.split_once("=\"")?;
        let (mut value, mut characters) = (String::new(), after.char_indices());
        let end = loop {
            match characters.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    escaped @ ('"' | '\\') => escaped,
                    _ => return None,
                }),
                (_, character) => value.push(character),
            }
        };
        if !is_name(name) || labels.insert(name.to_owned(), value).is_some() {
            return None;
        }
        rest = &after[end..];
        match rest.chars().next()? {
            ',' => rest = &rest[1..],
            '}' => return Some((labels, &rest[1..])),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prometheus_refuses_is_refused() {
        let head = "# HELP a A\n# TYPE a gauge\n";
        for bad in [
            "a{x=\"1} 1\n",
            "a 1",
            "b 1\n",
            "a{x=\"\\t\"} 1\n",
            "a\n",
            "a one\n",
            "a{x=\"1\"}1\n",
            "a 1\na 2\n",
        ] {
            let text = format!("{head}{bad}");
            assert!(std::panic::catch_unwind(|| Scrape::parse(&text)).is_err(), "{bad:?}");
        }
        let scrape = Scrape::parse(&format!("{head}a{{x=\"1,2}}\\n\\\"\",y=\"\"}} 1.5\n"));
        assert_eq!(scrape.get("a", &[("x", "1,2}\n\"")]), Some(1.5));
    }
}

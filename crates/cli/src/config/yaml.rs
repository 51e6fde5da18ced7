//! YAML, written: as much of it as a configuration file needs.
//!
//! Invariant: what is written here is read back as what it was.

use std::fmt::Display;

/// A part of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Yaml {
    /// A number, a duration, a boolean: written as it is.
    Plain(String),
    /// Any text: quoted where it might be taken for something else.
    Text(String),
    Map(Map),
    List(Vec<Yaml>),
}

/// Keys and values, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Map(Vec<(String, Yaml)>);

impl Map {
    pub(super) fn add(&mut self, key: &str, value: Yaml) {
        self.0.push((key.to_owned(), value));
    }

    /// Adds a number, a duration or a boolean.
    pub(super) fn plain(&mut self, key: &str, value: impl Display) {
        self.add(key, Yaml::Plain(value.to_string()));
    }

    /// Adds a text.
    pub(super) fn text(&mut self, key: &str, value: impl Display) {
        self.add(key, Yaml::Text(value.to_string()));
    }

    /// The document.
    pub(super) fn document(&self) -> String {
        let mut lines = Vec::new();
        self.write(0, &mut lines);
        lines.into_iter().map(|line| line + "\n").collect()
    }

    fn write(&self, indent: usize, lines: &mut Vec<String>) {
        for (key, value) in &self.0 {
            let key = format!("{:indent$}{}:", "", Yaml::Text(key.clone()).in_a_line());
            match value {
                Yaml::Map(map) if !map.0.is_empty() => {
                    lines.push(key);
                    map.write(indent + 2, lines);
                }
                Yaml::List(items) if !items.is_empty() => {
                    lines.push(key);
                    items.iter().for_each(|item| item.write_item(indent + 2, lines));
                }
                other => lines.push(format!("{key} {}", other.in_a_line())),
            }
        }
    }
}

impl Yaml {
    /// An entry of a list: its first line begins with a dash.
    fn write_item(&self, indent: usize, lines: &mut Vec<String>) {
        let Yaml::Map(map) = self else {
            return lines.push(format!("{:indent$}- {}", "", self.in_a_line()));
        };
        let first = lines.len();
        map.write(indent + 2, lines);
        if let Some(line) = lines.get_mut(first) {
            line.replace_range(indent..=indent, "-");
        }
    }

    fn in_a_line(&self) -> String {
        match self {
            Yaml::Plain(text) => text.clone(),
            Yaml::Text(text) if is_plain(text) => text.clone(),
            // A string of JSON is one of YAML.
            Yaml::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Yaml::Map(_) => "{}".to_owned(),
            Yaml::List(_) => "[]".to_owned(),
        }
    }
}

/// Whether a text cannot be taken for anything else.
fn is_plain(text: &str) -> bool {
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@=".contains(&byte);
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'/');
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    begins
        && scheme.bytes().chain(rest.bytes()).all(harmless)
        && !words.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_written_and_read_back() {
        let mut inner = Map::default();
        inner.text("a", "s3://bucket/x");
        inner.text("b", "yes");
        let mut map = Map::default();
        map.add("empty", Yaml::List(Vec::new()));
        map.add("list", Yaml::List(vec![Yaml::Map(inner.clone()), Yaml::Map(inner.clone())]));
        map.add("inner", Yaml::Map(inner));
        map.plain("number", 5);
        let text = map.document();
        insta::assert_snapshot!(text);
        let read: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(read["list"][1]["b"], "yes");
        assert_eq!(read["number"], 5);
    }

    #[test]
    fn any_text_is_read_back() {
        for text in
            ["", "a b", "null", "1", "0x1", "***", "a: b", "# c", "\"q\"", "line\nline", "é", "~", "-"]
        {
            let mut map = Map::default();
            map.text("a", text);
            let read: serde_json::Value = serde_yaml::from_str(&map.document()).unwrap();
            assert_eq!(read["a"], text);
        }
    }
}

//! Environment variables in the text of a configuration file.
//!
//! The rules are those of Go's `os.Expand`, on the raw text before it is parsed: `$NAME` and `${NAME}`, an
//! unset variable is empty, and there is no escape; a dollar sign before anything that cannot be a name stays.
//! `-no-expand-env` turns all of it off.

/// Replaces every variable by what `lookup` says.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> String) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        let (name, length) = variable(rest);
        match name {
            Some("") if length == 0 => expanded.push('$'),
            Some(name) => expanded.push_str(&lookup(name)),
            None => {}
        }
        rest = &rest[length..];
    }
    expanded.push_str(rest);
    expanded
}

/// The name at the start of `text` and how much of the text it takes. `None`: bad syntax, to be swallowed.
fn variable(text: &str) -> (Option<&str>, usize) {
    if let Some(braced) = text.strip_prefix('{') {
        return match braced.find('}') {
            Some(0) => (None, 2),
            Some(end) => (Some(&braced[..end]), end + 2),
            None => (None, 1),
        };
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || "*#$@!?-".contains(c)) {
        return (Some(&text[..1]), 1);
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    (Some(&text[..end]), end)
}

/// What a configuration file may refer to: the environment, and `$PID`.
pub(crate) fn environment(name: &str) -> String {
    if name == "PID" {
        return std::process::id().to_string();
    }
    std::env::var(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_as_go_replaces_them() {
        let lookup = |name: &str| if name == "A_1" { "yes".to_owned() } else { String::new() };
        for (text, expanded) in [
            ("x: $A_1", "x: yes"),
            ("x: ${A_1}y", "x: yesy"),
            ("x: $A_1-y", "x: yes-y"),
            ("x: $NONE.", "x: ."),
            ("cost: 5$ .", "cost: 5$ ."),
            ("a$$b$1c", "abc"),
            ("${}a${", "a"),
            ("$", "$"),
            ("é$A_1é", "éyesé"),
        ] {
            assert_eq!(expand(text, lookup), expanded, "{text}");
        }
    }
}

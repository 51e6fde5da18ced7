//! Reads flags the way Go programs do, and writes them the way clap wants them.
//!
//! Invariant: what flags exist, and which take a value, is known from the clap command alone; this file has
//! no list of its own. `-name v`, `-name=v`, `--name v` and `--name=v` are the same; a flag without value is
//! switched on by `-name` and set by `-name=true` or `-name=false`; `--` ends the flags.

use std::ffi::{OsStr, OsString};

use crate::error::{CliError, nearest};

/// What the arguments of one command come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// Somebody asks for help.
    Help,
    /// Arguments for clap: `--name=value`, then `--`, then the positional ones.
    Normal(Vec<OsString>),
}

/// Normalises the arguments that follow the name of `command`.
///
/// Unlike Go, flags are also taken after the first positional argument: nobody means `restore DB -o OUT`
/// any other way.
pub(crate) fn normalise(
    command: &clap::Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Arguments, CliError> {
    let (mut flags, mut positional) = (Vec::<OsString>::new(), Vec::new());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let Some(flag) = Flag::parse(&argument) else {
            positional.push(argument);
            continue;
        };
        if flag.name.is_empty() {
            positional.extend(arguments);
            break;
        }
        let Some(known) = find(command, flag.name) else {
            if matches!(flag.name, "h" | "help") {
                return Ok(Arguments::Help);
            }
            return Err(unknown_flag(command, flag.name));
        };
        let name = format!("--{}", flag.name);
        if !known.get_action().takes_values() {
            // The last one counts, as it does for values.
            flags.retain(|earlier| *earlier != *name);
            if flag.boolean()? {
                flags.push(name.into());
            }
            continue;
        }
        let value = match flag.value {
            Some(value) => value.to_owned(),
            None => arguments
                .next()
                .ok_or_else(|| CliError::new(format!("flag needs an argument: -{}", flag.name)))?,
        };
        flags.push([OsStr::new(&name), OsStr::new("="), &value].into_iter().collect());
    }
    flags.push("--".into());
    flags.append(&mut positional);
    Ok(Arguments::Normal(flags))
}

/// One argument that begins with a dash.
struct Flag<'a> {
    name: &'a str,
    value: Option<&'a OsStr>,
}

impl<'a> Flag<'a> {
    /// `None` for a positional argument. The name is empty for `--`.
    fn parse(argument: &'a OsStr) -> Option<Self> {
        // A lone "-" is a file name by custom, and a flag is never anything but UTF-8 up to its "=".
        let bytes = argument.as_encoded_bytes();
        let body =
            bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-").filter(|b| !b.is_empty()))?;
        // No flag begins with a digit: this is how long ago something was.
        if body.first().is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let end = body.iter().position(|&byte| byte == b'=').unwrap_or(body.len());
        let name = std::str::from_utf8(&body[..end]).ok()?;
        let skip = bytes.len() - body.len() + end + 1;
        let value = (end < body.len()).then(|| split_off(argument, skip));
        Some(Flag { name, value })
    }

    fn boolean(&self) -> Result<bool, CliError> {
        let Some(value) = self.value else { return Ok(true) };
        match value.to_str() {
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            _ => Err(CliError::new(format!(
                "invalid boolean value {:?} for -{}: write true or false",
                value.to_string_lossy(),
                self.name
            ))),
        }
    }
}

/// The rest of an argument after its first `skip` bytes, which end in an ASCII character.
fn split_off(argument: &OsStr, skip: usize) -> &OsStr {
    use std::os::unix::ffi::OsStrExt;
    OsStr::from_bytes(&argument.as_bytes()[skip..])
}

fn find<'a>(command: &'a clap::Command, name: &str) -> Option<&'a clap::Arg> {
    command.get_arguments().find(|argument| argument.get_long() == Some(name))
}

fn unknown_flag(command: &clap::Command, name: &str) -> CliError {
    let known = command.get_arguments().filter_map(|argument| argument.get_long());
    let error = CliError::new(format!("flag provided but not defined: -{name}"));
    match nearest(name, known) {
        Some(near) => error.with_suggestion(Some(format!("-{near}"))),
        None => error.with_try(format!("walstream {} -help", command.get_name())),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, Command};

    use super::*;

    fn command() -> Command {
        Command::new("restore")
            .arg(Arg::new("config").long("config"))
            .arg(Arg::new("o").long("o"))
            .arg(Arg::new("json").long("json").action(ArgAction::SetTrue))
    }

    fn read(line: &str) -> Result<String, String> {
        let arguments = line.split_whitespace().map(OsString::from);
        match normalise(&command(), arguments) {
            Ok(Arguments::Help) => Ok("help".to_owned()),
            Ok(Arguments::Normal(list)) => Ok(list.join(OsStr::new(" ")).to_string_lossy().into_owned()),
            Err(error) => Err(error.report()),
        }
    }

    #[test]
    fn the_four_spellings_are_one() {
        for line in ["-config x", "-config=x", "--config x", "--config=x"] {
            assert_eq!(read(line).unwrap(), "--config=x --", "{line}");
        }
    }

    #[test]
    fn a_switch_can_be_switched_off() {
        assert_eq!(read("-json db").unwrap(), "--json -- db");
        assert_eq!(read("-json=false db").unwrap(), "-- db");
        assert_eq!(read("--json=T db").unwrap(), "--json -- db");
        assert_eq!(
            read("-json=x").unwrap_err(),
            "Error: invalid boolean value \"x\" for -json: write true or false"
        );
    }

    #[test]
    fn a_value_may_look_like_a_flag_and_may_hold_an_equals_sign() {
        assert_eq!(read("-o -json").unwrap(), "--o=-json --");
        assert_eq!(read("-o=a=b").unwrap(), "--o=a=b --");
        assert_eq!(read("-o=").unwrap(), "--o= --");
    }

    #[test]
    fn flags_may_follow_positional_arguments_until_two_dashes() {
        assert_eq!(read("db -o out").unwrap(), "--o=out -- db");
        assert_eq!(read("db -- -o out").unwrap(), "-- db -o out");
        assert_eq!(read("-").unwrap(), "-- -");
        assert_eq!(read("-5m -o=-1h30m").unwrap(), "--o=-1h30m -- -5m", "so long ago");
    }

    #[test]
    fn help_is_asked_for_in_four_ways() {
        for line in ["-h", "-help", "--help", "db -h"] {
            assert_eq!(read(line).unwrap(), "help", "{line}");
        }
    }

    #[test]
    fn unknown_flags_and_missing_values_are_named() {
        assert_eq!(
            read("-confg x").unwrap_err(),
            "Error: flag provided but not defined: -confg\nHint: did you mean -config?"
        );
        assert_eq!(
            read("-zzzzzz").unwrap_err(),
            "Error: flag provided but not defined: -zzzzzz\nTry: walstream restore -help"
        );
        assert_eq!(read("-config").unwrap_err(), "Error: flag needs an argument: -config");
    }

    #[test]
    fn bytes_that_are_not_text_pass_through() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(vec![b'-', b'o', b'=', 0xff]);
        let Arguments::Normal(list) = normalise(&command(), [odd]).unwrap() else { panic!() };
        assert_eq!(list[0], OsString::from_vec(vec![b'-', b'-', b'o', b'=', 0xff]));
    }
}

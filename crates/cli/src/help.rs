//! Help texts, written from the clap definition of each command in the form that Go users know.
//!
//! Invariant: there is no second description of a flag; what is printed is what is parsed.

use clap::{Arg, Command};

const WIDTH: usize = 78;

/// The page for the whole program.
pub(crate) fn main_page(program: &Command) -> String {
    let commands: Vec<&Command> = commands(program).collect();
    let width = commands.iter().map(|command| command.get_name().len()).max().unwrap_or(0);
    let mut page = wrap(&(about(program) + "."), 0) + "\nUsage:\n  walstream COMMAND [flags]\n\nCommands:\n";
    for command in commands {
        page.push_str(&format!("  {:width$}  {}\n", command.get_name(), about(command)));
    }
    page.push_str(&after(program));
    page
}

/// The page for one command.
pub(crate) fn command_page(command: &Command) -> String {
    let long = command.get_long_about().or_else(|| command.get_about());
    let mut page = String::new();
    for paragraph in long.map(|text| text.to_string()).unwrap_or_default().split("\n\n") {
        page.push_str(&wrap(paragraph, 0));
        page.push('\n');
    }
    page.push_str("Usage:\n");
    for line in usage(command) {
        page.push_str(&format!("  {line}\n"));
    }
    let mut flags = flags(command).peekable();
    if flags.peek().is_some() {
        page.push_str("\nFlags:\n");
    }
    for flag in flags {
        page.push_str(&describe(flag));
    }
    page.push_str(&after(command));
    page
}

fn describe(flag: &Arg) -> String {
    let mut line = format!("  -{}", flag.get_long().unwrap_or_default());
    if let Some(value) = value(flag) {
        line.push_str(&format!(" {value}"));
    }
    format!("{line}\n{}", wrap(&text(flag), 6))
}

/// The commands that are shown in a list of them.
pub(crate) fn commands(program: &Command) -> impl Iterator<Item = &Command> {
    program.get_subcommands().filter(|command| !command.is_hide_set())
}

/// What a command does, in one sentence without its full stop.
pub(crate) fn about(command: &Command) -> String {
    command.get_about().map(|text| text.to_string()).unwrap_or_default()
}

/// The command lines that a command takes.
pub(crate) fn usage(command: &Command) -> Vec<String> {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage:").lines().map(|line| line.trim().to_owned()).collect()
}

/// The flags of a command.
pub(crate) fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|flag| flag.get_long().is_some() && !flag.is_hide_set())
}

/// What stands for the value of a flag, if it takes one.
pub(crate) fn value(flag: &Arg) -> Option<String> {
    let names = flag.get_value_names().filter(|_| flag.get_action().takes_values())?;
    Some(names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" "))
}

/// What a flag does.
pub(crate) fn text(flag: &Arg) -> String {
    // clap takes the full stop from the end of a paragraph.
    flag.get_help().map(|help| format!("{help}.")).unwrap_or_default()
}

fn after(command: &Command) -> String {
    command.get_after_help().map(|text| format!("\n{text}\n")).unwrap_or_default()
}

/// Breaks a paragraph into indented lines.
fn wrap(paragraph: &str, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && indent + line + 1 + word.chars().count() > WIDTH {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.iter().map(|line| format!("{:indent$}{line}\n", "")).collect()
}

//! Help texts, written from the clap definition of each command in the form that Go users know.
//!
//! Invariant: there is no second description of a flag; what is printed is what is parsed.

use clap::{Arg, Command};

const WIDTH: usize = 78;

/// The page for the whole program.
pub(crate) fn main_page(program: &Command) -> String {
    let commands: Vec<&Command> =
        program.get_subcommands().filter(|command| !command.is_hide_set()).collect();
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
    let usage = command.clone().render_usage().to_string();
    for line in usage.trim_start_matches("Usage:").lines() {
        page.push_str(&format!("  {}\n", line.trim()));
    }
    let flags: Vec<&Arg> = command.get_arguments().filter(|arg| arg.get_long().is_some()).collect();
    if !flags.is_empty() {
        page.push_str("\nFlags:\n");
    }
    for flag in flags.into_iter().filter(|flag| !flag.is_hide_set()) {
        page.push_str(&describe(flag));
    }
    page.push_str(&after(command));
    page
}

fn describe(flag: &Arg) -> String {
    let mut line = format!("  -{}", flag.get_long().unwrap_or_default());
    if flag.get_action().takes_values() {
        for name in flag.get_value_names().unwrap_or_default() {
            line.push_str(&format!(" {name}"));
        }
    }
    // clap takes the full stop from the end of a paragraph.
    let help = flag.get_help().map(|help| format!("{help}.")).unwrap_or_default();
    format!("{line}\n{}", wrap(&help, 6))
}

fn about(command: &Command) -> String {
    command.get_about().map(|text| text.to_string()).unwrap_or_default()
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

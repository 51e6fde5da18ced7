//! Manual pages, in the language of `man`.

use clap::{Arg, Command};

use super::{flag_name, is_of_two_words};
use crate::commands::version::VERSION;
use crate::help;

/// A page and its name.
pub(super) struct Page {
    pub(super) name: String,
    pub(super) text: String,
}

/// The page of the whole program.
pub(super) fn main_page(program: &Command) -> Page {
    let mut page = Page::begin("walstream", "streaming replication for SQLite");
    page.lines("SYNOPSIS", ["walstream COMMAND [flags]"]);
    page.section("DESCRIPTION");
    page.paragraph(&format!("{}.", help::about(program)));
    page.section("COMMANDS");
    for command in help::commands(program) {
        page.item(&format!("\\fB{}\\fR", escape(command.get_name())), &format!("{}.", help::about(command)));
    }
    page.examples(program);
    page.section("FILES");
    page.item("\\fI/etc/litestream.yml\\fR", "The configuration file.");
    page.item("\\fI/etc/default/walstream\\fR", "The environment of the service, such as credentials.");
    let others = super::described(program).map(page_name);
    page.see_also(others);
    page
}

/// The page of one command.
pub(super) fn command_page(command: &Command) -> Page {
    let name = page_name(command);
    let mut page = Page::begin(&name, &lower_first(&help::about(command)));
    page.lines("SYNOPSIS", help::usage(command));
    page.section("DESCRIPTION");
    let long = command.get_long_about().or_else(|| command.get_about());
    for paragraph in long.map(|text| text.to_string()).unwrap_or_default().split("\n\n") {
        page.paragraph(paragraph);
    }
    let mut flags = help::flags(command).peekable();
    if flags.peek().is_some() {
        page.section("OPTIONS");
    }
    for flag in flags {
        page.item(&heading(flag), &help::text(flag));
    }
    page.examples(command);
    let parent = is_of_two_words(command).then(|| name.rsplit_once('-').map(|(parent, _)| parent.to_owned()));
    page.see_also(["walstream".to_owned()].into_iter().chain(parent.flatten()));
    page
}

fn page_name(command: &Command) -> String {
    format!("walstream-{}", command.get_name().replace(' ', "-"))
}

fn heading(flag: &Arg) -> String {
    let value = help::value(flag).map(|value| format!(" \\fI{}\\fR", escape(&value)));
    format!("\\fB\\-{}\\fR{}", escape(flag_name(flag)), value.unwrap_or_default())
}

impl Page {
    fn begin(name: &str, about: &str) -> Page {
        let title = name.to_uppercase();
        let text = format!(".TH {title} 1 \"\" \"walstream {VERSION}\" \"User Commands\"\n");
        let mut page = Page { name: name.to_owned(), text };
        page.section("NAME");
        page.text.push_str(&format!("{} \\- {}\n", escape(name), escape(about.trim_end_matches('.'))));
        page
    }

    fn section(&mut self, title: &str) {
        self.text.push_str(&format!(".SH {title}\n"));
    }

    fn paragraph(&mut self, text: &str) {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.text.push_str(&format!(".PP\n{}\n", escape(&words)));
    }

    /// Lines that stay lines.
    fn lines(&mut self, title: &str, lines: impl IntoIterator<Item = impl AsRef<str>>) {
        self.section(title);
        self.text.push_str(".nf\n");
        for line in lines {
            self.text.push_str(&format!("{}\n", escape(line.as_ref())));
        }
        self.text.push_str(".fi\n");
    }

    fn item(&mut self, heading: &str, text: &str) {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.text.push_str(&format!(".TP\n{heading}\n{}\n", escape(&words)));
    }

    fn examples(&mut self, command: &Command) {
        let Some(text) = command.get_after_help().map(|text| text.to_string()) else { return };
        let text = text.strip_prefix("Examples:\n").unwrap_or(&text);
        self.lines("EXAMPLES", text.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)));
    }

    fn see_also(&mut self, pages: impl IntoIterator<Item = String>) {
        self.section("SEE ALSO");
        let pages: Vec<_> = pages.into_iter().map(|page| format!("\\fB{}\\fR(1)", escape(&page))).collect();
        self.text.push_str(&format!("{}\n", pages.join(",\n")));
    }
}

/// Text as it is: a backslash, a dash, and what would be a request at the beginning of a line.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_taken_for_a_request() {
        assert_eq!(escape(".hidden -x a\\b"), "\\&.hidden \\-x a\\eb");
        assert_eq!(escape("'quoted'"), "\\&'quoted'");
    }
}

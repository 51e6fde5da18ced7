//! `walstream manual`: what packages need, so it is in no list of commands.
//!
//! Invariant: as with the help pages, there is no second description of a command; what is written is what is parsed.

mod bash;
mod fish;
mod man;
mod zsh;

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use clap::{Arg, Command};

use crate::args;
use crate::error::CliError;
use crate::help;

/// Write the manual pages and the completions for shells into a folder.
///
/// Makes FOLDER/man with a page for each command, and FOLDER/completions with a file each for bash, zsh and fish.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream manual FOLDER")]
pub(crate) struct Args {
    #[arg(hide = true)]
    folder: Vec<OsString>,
}

/// Writes them.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let [folder] = args.folder.as_slice() else {
        return Err(CliError::new("one folder required").with_try("walstream manual ./manual"));
    };
    let program = args::definition();
    let pages = std::iter::once(man::main_page(&program))
        .chain(described(&program).map(man::command_page))
        .map(|page| (format!("{}.1", page.name), page.text));
    write_all(&Path::new(folder).join("man"), pages)?;
    let completions = [
        ("walstream.bash", bash::script(&program)),
        ("_walstream", zsh::script(&program)),
        ("walstream.fish", fish::script(&program)),
    ];
    write_all(&Path::new(folder).join("completions"), completions.map(|(name, text)| (name.to_owned(), text)))
}

fn write_all(folder: &Path, files: impl IntoIterator<Item = (String, String)>) -> Result<(), CliError> {
    let explain = |path: &Path, error| CliError::new(format!("cannot write {}: {error}", path.display()));
    fs::create_dir_all(folder).map_err(|error| explain(folder, error))?;
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| explain(&path, error))?;
    }
    Ok(())
}

/// The commands that users have: those of a list, and those of two words.
fn described(program: &Command) -> impl Iterator<Item = &Command> {
    program.get_subcommands().filter(|command| !command.is_hide_set() || is_of_two_words(command))
}

fn is_of_two_words(command: &Command) -> bool {
    command.get_name().contains(' ')
}

/// The second words that may follow the name of a command.
fn second_words<'a>(program: &'a Command, first: &'a str) -> impl Iterator<Item = &'a Command> {
    program
        .get_subcommands()
        .filter(move |command| command.get_name().split_once(' ').is_some_and(|(word, _)| word == first))
}

fn second_word(command: &Command) -> &str {
    command.get_name().split_once(' ').map_or("", |(_, word)| word)
}

fn flag_name(flag: &Arg) -> &str {
    flag.get_long().unwrap_or_default()
}

/// The values of a flag, if it takes no others.
fn values_of(flag: &Arg) -> String {
    let values = flag.get_possible_values();
    values.iter().map(|value| value.get_name()).collect::<Vec<_>>().join(" ")
}

/// The first sentence of what a flag does, without its full stop.
fn gist(flag: &Arg) -> String {
    let text = help::text(flag);
    let first = text.split_once(". ").map_or(text.as_str(), |(first, _)| first);
    first.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn pages_look_so() {
        let program = args::definition();
        let restore = program.find_subcommand("restore").unwrap();
        insta::assert_snapshot!("man-main", man::main_page(&program).text);
        insta::assert_snapshot!("man-restore", man::command_page(restore).text);
    }

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        run(&Args { folder: vec![folder.path().into()] }).unwrap();
        let names = |sub: &str| -> BTreeSet<String> {
            let files = fs::read_dir(folder.path().join(sub)).unwrap();
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
        };
        let pages = names("man");
        for page in ["walstream.1", "walstream-restore.1", "walstream-ltx-verify.1"] {
            assert!(pages.contains(page), "{page} is missing in {pages:?}");
        }
        assert!(!pages.contains("walstream-manual.1"), "it is for those who make packages");
        assert_eq!(
            names("completions"),
            ["_walstream", "walstream.bash", "walstream.fish"].map(str::to_owned).into()
        );
    }

    #[test]
    fn flags_have_one_dash_everywhere() {
        let program = args::definition();
        let completions = [bash::script(&program), zsh::script(&program), fish::script(&program)];
        let pages = described(&program).map(|command| man::command_page(command).text);
        for text in pages.chain([completions[0].clone(), completions[1].clone()]) {
            assert!(!text.contains("--config") && !text.contains("\\-\\-config"), "{text}");
        }
        assert!(completions[0].contains(" -config "));
        assert!(completions[1].contains("'-config=["));
        assert!(completions[2].contains(" -o config "), "fish writes one dash for -o");
    }
}

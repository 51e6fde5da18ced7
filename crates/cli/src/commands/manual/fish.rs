//! Completions for fish. Where nothing is known, files are offered.

use clap::{Arg, Command};

use super::{described, flag_name, gist, is_of_two_words, second_word, second_words, values_of};
use crate::help;

/// The file for a folder of completions.
pub(super) fn script(program: &Command) -> String {
    let two: Vec<_> = described(program)
        .filter(|command| is_of_two_words(command))
        .map(|command| quoted(command.get_name()))
        .collect();
    let mut script = BEGIN.replace("TWO_WORDS", &two.join(" "));
    for command in help::commands(program) {
        let (name, about) = (command.get_name(), quoted(&help::about(command)));
        script.push_str(&format!("complete -c walstream -f -n '__walstream_is \"\"' -a {name} -d {about}\n"));
        script.push_str(&format!("complete -c walstream -f -n '__walstream_is help' -a {name} -d {about}\n"));
    }
    script.push_str(
        "complete -c walstream -f -n '__walstream_is \"\"' -a help -d 'Show the help of a command'\n",
    );
    for command in described(program) {
        let is = format!(
            "complete -c walstream -n {}",
            quoted(&format!("__walstream_is \"{}\"", command.get_name()))
        );
        for word in second_words(program, command.get_name()) {
            script.push_str(&format!("{is} -a {} -d {}\n", second_word(word), quoted(&help::about(word))));
        }
        help::flags(command).for_each(|flag| script.push_str(&format!("{is} {}\n", option(flag))));
    }
    script + "complete -c litestream -w walstream\n"
}

fn option(flag: &Arg) -> String {
    let (name, gist, values) = (flag_name(flag), quoted(&gist(flag)), values_of(flag));
    match help::value(flag) {
        None => format!("-o {name} -d {gist}"),
        Some(_) if values.is_empty() => format!("-o {name} -r -d {gist}"),
        Some(_) => format!("-o {name} -x -a '{values}' -d {gist}"),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

const BEGIN: &str = "\
# Completions of walstream for fish. \"walstream manual\" writes them.
function __walstream_is
    set -l words (commandline -opc)
    set -l command \"$words[2]\"
    contains -- \"$words[2] $words[3]\" TWO_WORDS; and set command \"$words[2] $words[3]\"
    test \"$command\" = \"$argv[1]\"
end
";

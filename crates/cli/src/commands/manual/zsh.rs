//! Completions for zsh. Where nothing is known, files are offered.

use clap::{Arg, Command};

use super::{described, flag_name, gist, is_of_two_words, second_word, second_words, values_of};
use crate::help;

/// The file for a folder of `$fpath`.
pub(super) fn script(program: &Command) -> String {
    let mut script = String::from(BEGIN);
    let help = "'help:Show the help of a command'".to_owned();
    for command in help::commands(program).map(described_word).chain([help]) {
        script.push_str(&format!("        {command}\n"));
    }
    script.push_str(MIDDLE);
    for command in described(program).filter(|command| is_of_two_words(command)) {
        let name = command.get_name();
        script.push_str(&format!(
            "    (( CURRENT > 3 )) && [[ \"$words[2] $words[3]\" == '{name}' ]] && command='{name}'\n"
        ));
    }
    script.push_str(
        "    shift words; (( CURRENT-- ))\n    [[ $command == *' '* ]] && { shift words; (( CURRENT-- )) }\n",
    );
    script.push_str("    case $command in\n        (help) _describe command commands ;;\n");
    for command in described(program) {
        script.push_str(&format!("        ('{}')\n            _arguments", command.get_name()));
        help::flags(command)
            .for_each(|flag| script.push_str(&format!(" \\\n                {}", option(flag))));
        let words: Vec<_> = second_words(program, command.get_name()).map(second_word).collect();
        match words.is_empty() {
            true => script.push_str(" \\\n                '*:file:_files' ;;\n"),
            false => script.push_str(&format!(
                " \\\n                '1: :_alternative \"words:command:({})\" \"files:file:_files\"' '*:file:_files' ;;\n",
                words.join(" ")
            )),
        }
    }
    script + END
}

fn described_word(command: &Command) -> String {
    format!("'{}:{}'", command.get_name(), escape(&help::about(command)))
}

fn option(flag: &Arg) -> String {
    let (name, gist, values) = (flag_name(flag), escape(&gist(flag)), values_of(flag));
    match help::value(flag) {
        None => format!("'-{name}[{gist}]'"),
        Some(value) if values.is_empty() => format!("'-{name}=[{gist}]:{value}:_files'"),
        Some(value) => format!("'-{name}=[{gist}]:{value}:({values})'"),
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('[', "\\[")
        .replace(']', "\\]")
        .replace(':', "\\:")
        .replace('\'', "'\\''")
}

const BEGIN: &str = "\
#compdef walstream litestream
# Completions of walstream for zsh. \"walstream manual\" writes them.
_walstream() {
    local command=$words[2]
    local -a commands=(
";

const MIDDLE: &str = "    \
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
";

const END: &str = "    \
    esac
}
_walstream \"$@\"
";

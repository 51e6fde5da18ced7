//! Completions for bash. Where nothing is known, files are offered.

use clap::{Arg, Command};

use super::{described, flag_name, second_word, second_words, values_of};
use crate::help;

/// The file to be sourced.
pub(super) fn script(program: &Command) -> String {
    let mut script = String::from(BEGIN);
    let names = help::commands(program).map(Command::get_name).chain(["help"]);
    script.push_str(&format!("    local commands='{}'\n", names.collect::<Vec<_>>().join(" ")));
    script.push_str("    case \"$command ${COMP_WORDS[2]:-}\" in\n");
    for command in described(program).filter(|command| super::is_of_two_words(command)) {
        let name = command.get_name();
        script.push_str(&format!("    '{name}') [ \"$COMP_CWORD\" -gt 2 ] && command='{name}' ;;\n"));
    }
    script.push_str("    esac\n    case \"$command:$prev\" in\n");
    described(program).for_each(|command| values(command, &mut script));
    script.push_str("    esac\n    case \"$command\" in\n");
    for command in described(program) {
        let flags: Vec<_> = help::flags(command).map(|flag| format!("-{}", flag_name(flag))).collect();
        let words: Vec<_> = second_words(program, command.get_name()).map(second_word).collect();
        let name = command.get_name();
        let (flags, words) = (flags.join(" "), words.join(" "));
        script.push_str(&format!("    '{name}') flags=' {flags} ' words='{words}' ;;\n"));
    }
    script + END
}

/// After a flag with a value only values are offered.
fn values(command: &Command, script: &mut String) {
    let name = command.get_name();
    let taking =
        |known: bool| move |flag: &&Arg| help::value(flag).is_some() && values_of(flag).is_empty() != known;
    for flag in help::flags(command).filter(taking(true)) {
        let (flag, values) = (flag_name(flag), values_of(flag));
        script.push_str(&format!(
            "    '{name}:-{flag}') COMPREPLY=($(compgen -W '{values}' -- \"$cur\")) && return ;;\n"
        ));
    }
    let free: Vec<_> = help::flags(command)
        .filter(taking(false))
        .map(|flag| format!("'{name}:-{}'", flag_name(flag)))
        .collect();
    if !free.is_empty() {
        script.push_str(&format!("    {}) return ;;\n", free.join(" | ")));
    }
}

const BEGIN: &str = "\
# Completions of walstream for bash. \"walstream manual\" writes them.
# shellcheck shell=bash disable=SC2207
_walstream() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} flags='' words=''
    COMPREPLY=()
";

const END: &str = "    \
    esac
    if [ \"$COMP_CWORD\" -eq 1 ] || [ \"$command:$COMP_CWORD\" = help:2 ]; then
        COMPREPLY=($(compgen -W \"$commands\" -- \"$cur\"))
    elif [ \"${cur#-}\" != \"$cur\" ]; then
        COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\"))
    elif [ \"$COMP_CWORD\" -eq 2 ]; then
        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))
    fi
}
complete -o default -F _walstream walstream litestream
";

//! File-name patterns, as Go's `filepath.Match` defines them: `*`, `?`, `[a-z]`, `[^a]`, and `\` to escape.

/// A pattern that has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    AnyChar,
    AnyRun,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// The pattern has an open bracket, an empty class or ends in a backslash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern {0:?}")]
pub(crate) struct ParseGlobError(String);

impl std::fmt::Display for Glob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for Glob {
    type Err = ParseGlobError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut chars = text.chars();
        let mut tokens = Vec::new();
        while let Some(char) = chars.next() {
            let token = match char {
                '*' => Some(Token::AnyRun),
                '?' => Some(Token::AnyChar),
                '[' => class(&mut chars),
                '\\' => chars.next().map(Token::Literal),
                char => Some(Token::Literal(char)),
            };
            tokens.push(token.ok_or_else(|| ParseGlobError(text.to_owned()))?);
        }
        Ok(Glob { text: text.to_owned(), tokens })
    }
}

fn class(chars: &mut std::str::Chars<'_>) -> Option<Token> {
    let negated = chars.as_str().starts_with('^');
    if negated {
        chars.next();
    }
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next()? {
            ']' if !ranges.is_empty() => return Some(Token::Class { negated, ranges }),
            ']' | '-' => return None,
            '\\' => chars.next()?,
            char => char,
        };
        let mut high = low;
        if chars.as_str().starts_with('-') {
            chars.next();
            high = match chars.next()? {
                ']' | '-' => return None,
                '\\' => chars.next()?,
                char => char,
            };
        }
        ranges.push((low, high));
    }
}

impl Token {
    fn accepts(&self, char: char) -> bool {
        match self {
            Token::Literal(literal) => *literal == char,
            Token::AnyChar | Token::AnyRun => true,
            Token::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&char)) != *negated
            }
        }
    }
}

impl Glob {
    /// Whether the whole name matches. Linear in memory and at most quadratic in time.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut token, mut char) = (0, 0);
        // Where to go on when the run that the last star stands for must be one longer.
        let mut retry = None;
        while char < name.len() {
            match self.tokens.get(token) {
                Some(Token::AnyRun) => {
                    retry = Some((token, char));
                    token += 1;
                }
                Some(other) if other.accepts(name[char]) => {
                    token += 1;
                    char += 1;
                }
                _ => match retry {
                    Some((star, start)) => {
                        retry = Some((star, start + 1));
                        (token, char) = (star + 1, start + 1);
                    }
                    None => return false,
                },
            }
        }
        self.tokens[token..].iter().all(|rest| *rest == Token::AnyRun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_go() {
        for (pattern, name, matches) in [
            ("*.db", "app.db", true),
            ("*.db", "app.db-wal", false),
            ("*", "anything", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            (r"\*.db", "*.db", true),
            (r"\*.db", "a.db", false),
            ("a*b*c", "a__b__b__c", true),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("", "", true),
            ("tenant-[0-9]*.sqlite", "tenant-12.sqlite", true),
        ] {
            assert_eq!(pattern.parse::<Glob>().unwrap().matches(name), matches, "{pattern} {name}");
        }
        for bad in ["[", "[]", "[a", "[^]", r"a\", "[-a]", "[a-]"] {
            assert!(bad.parse::<Glob>().is_err(), "{bad}");
        }
    }
}

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use sinew_core::{Error, ErrorKind};

/// What a shell would understand and this does not.
const SHELL: &[u8] = b"|&;<>()$`";

/// A command from a line of words, as a shell takes it apart, but without a shell.
///
/// Words stand between blanks. Quotes keep a word together: nothing is special between single quotes;
/// between double quotes, and outside of quotes, a backslash takes the next character literally (between
/// double quotes only `"`, `\`, `$` and a backquote). Nothing is expanded: `*`, `~` and `#` mean
/// themselves.
///
/// # Errors
///
/// Of kind [`InvalidAddress`](ErrorKind::InvalidAddress) if there is no word, a quote is not closed, or one of
/// ``|&;<>()$` `` stands outside of quotes: with a shell that would be something else, and a shell is had
/// with `sh -c '…'`.
///
/// # Examples
///
/// ```
/// let command = sinew_pipe::command("grep -v 'a b' words".as_ref())?;
/// assert_eq!(command.get_program(), "grep");
/// assert!(command.get_args().eq(["-v", "a b", "words"]));
/// # Ok::<(), sinew_core::Error>(())
/// ```
pub fn command(line: &OsStr) -> Result<Command, Error> {
    let mut words = words(line.as_bytes())
        .map_err(|error| error.with_address(line.display()))?
        .into_iter()
        .map(OsString::from_vec);
    let Some(program) = words.next().filter(|program| !program.is_empty()) else {
        return Err(invalid("there is no program", "write its name").with_address(line.display()));
    };
    let mut command = Command::new(program);
    command.args(words);
    Ok(command)
}

fn invalid(reason: impl Into<String>, remedy: &'static str) -> Error {
    Error::new(ErrorKind::InvalidAddress, "command")
        .with_reason(reason.into())
        .with_remedy(remedy)
}

fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(open), byte) if byte == open => quote = None,
            (None, b'\'' | b'"') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (None | Some(b'"'), b'\\') => {
                let Some(next) = bytes.next() else {
                    return Err(invalid("a backslash is the last character", "write two"));
                };
                let word = word.get_or_insert_default();
                if quote.is_some() && !b"\"\\$`".contains(&next) {
                    word.push(b'\\');
                }
                word.push(next);
            }
            (None, byte) if byte.is_ascii_whitespace() => words.extend(word.take()),
            (None, byte) if SHELL.contains(&byte) => {
                return Err(invalid(
                    format!("`{}` is for a shell, and there is none", char::from(byte)),
                    "quote it, or have a shell: sh -c '...'",
                ));
            }
            (Some(b'"'), b'$' | b'`') => {
                return Err(invalid(
                    format!("`{}` is for a shell, and there is none", char::from(byte)),
                    "write a backslash before it, or have a shell: sh -c '...'",
                ));
            }
            (_, byte) => word.get_or_insert_default().push(byte),
        }
    }
    if let Some(open) = quote {
        return Err(invalid(
            format!("a quote `{}` is not closed", char::from(open)),
            "close it, or write a backslash before it",
        ));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<String> {
        let words = words(line.as_bytes()).unwrap();
        words
            .into_iter()
            .map(|word| String::from_utf8(word).unwrap())
            .collect()
    }

    #[test]
    fn as_a_shell_takes_them_apart() {
        assert_eq!(split("sort -u"), ["sort", "-u"]);
        assert_eq!(split("  a\t b \n"), ["a", "b"]);
        assert_eq!(split("a 'b c' \"d e\" f\\ g"), ["a", "b c", "d e", "f g"]);
        assert_eq!(split("a''b '' \"\""), ["ab", "", ""]);
        assert_eq!(split(r#"'\n|$' "\$\"\\\n" \|"#), [r"\n|$", r#"$"\\n"#, "|"]);
        assert_eq!(
            split("sh -c 'a | b > \"c\"'"),
            ["sh", "-c", "a | b > \"c\""]
        );
        assert_eq!(split("echo * ~ #"), ["echo", "*", "~", "#"]);
    }

    #[test]
    fn what_needs_a_shell_is_refused() {
        for (line, said) in [
            ("a|b", "`|`"),
            ("a > b", "`>`"),
            ("echo $HOME", "`$`"),
            ("echo \"$HOME\"", "`$`"),
            ("a; b", "`;`"),
            ("a 'b", "not closed"),
            ("a \\", "backslash"),
            ("''", "no program"),
        ] {
            let error = command(line.as_ref()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidAddress);
            assert!(error.to_string().contains(said), "{error}");
            assert!(error.remedy().is_some());
        }
    }
}

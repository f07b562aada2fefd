use std::io::{self, Write};

use sinew::{Message, Peer};

use crate::base64;
use crate::peers::Origin;

/// Writes a message as an object in a line of its own; the field names are in `sinew recv --help`.
pub(crate) fn write(
    to: &mut impl Write,
    message: &Message,
    origin: Option<&Origin>,
) -> io::Result<()> {
    match std::str::from_utf8(message.payload()) {
        Ok(text) => {
            to.write_all(b"{\"payload\":")?;
            serde_json::to_writer(&mut *to, text)?;
        }
        Err(_) => {
            to.write_all(b"{\"payload_base64\":\"")?;
            base64::write(to, message.payload())?;
            to.write_all(b"\"")?;
        }
    }
    if let Some(priority) = message.priority() {
        write!(to, ",\"priority\":{priority}")?;
    }
    if let Some(kind) = message.kind() {
        write!(to, ",\"kind\":{kind}")?;
    }
    if let Some(sender) = message.credentials() {
        let (pid, uid, gid) = (sender.pid, sender.uid, sender.gid);
        write!(
            to,
            ",\"credentials\":{{\"pid\":{pid},\"uid\":{uid},\"gid\":{gid}}}"
        )?;
    }
    if !message.fds().is_empty() {
        write!(to, ",\"fds\":{}", message.fds().len())?;
    }
    if let Some(Origin { number, peer }) = origin {
        write!(to, ",\"peer\":{{\"number\":{number}")?;
        match peer {
            Peer::Process(peer) => {
                let (pid, uid, gid) = (peer.pid, peer.uid, peer.gid);
                write!(to, ",\"pid\":{pid},\"uid\":{uid},\"gid\":{gid}")?;
            }
            other => write!(to, ",\"address\":\"{other}\"")?,
        }
        to.write_all(b"}")?;
    }
    to.write_all(b"}\n")
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use sinew::Credentials;

    use super::*;

    fn line(message: &Message) -> String {
        let mut line = Vec::new();
        write(&mut line, message, None).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn payloads() {
        assert_eq!(line(&Message::from("hello")), "{\"payload\":\"hello\"}\n");
        assert_eq!(line(&Message::from("")), "{\"payload\":\"\"}\n");
        assert_eq!(
            line(&Message::from("\"a\"\n\\é")),
            "{\"payload\":\"\\\"a\\\"\\n\\\\é\"}\n"
        );
        assert_eq!(
            line(&Message::from(vec![0xff, 0x00])),
            "{\"payload_base64\":\"/wA=\"}\n"
        );
    }

    #[test]
    fn attributes() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let message = Message::from("job")
            .with_priority(3)
            .with_kind(-7)
            .with_credentials(Credentials::new(1, 2, 3))
            .with_fds([OwnedFd::from(reader)]);
        let line = line(&message);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "payload": "job",
            "priority": 3,
            "kind": -7,
            "credentials": { "pid": 1, "uid": 2, "gid": 3 },
            "fds": 1,
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn origins() {
        for (peer, expected) in [
            (
                Peer::Process(Credentials::new(1, 2, 3)),
                "{\"payload\":\"\",\"peer\":{\"number\":7,\"pid\":1,\"uid\":2,\"gid\":3}}\n",
            ),
            (
                Peer::Host("[::1]:80".parse().unwrap()),
                "{\"payload\":\"\",\"peer\":{\"number\":7,\"address\":\"[::1]:80\"}}\n",
            ),
        ] {
            let mut line = Vec::new();
            let origin = Origin { number: 7, peer };
            write(&mut line, &Message::from(""), Some(&origin)).unwrap();
            assert_eq!(String::from_utf8(line).unwrap(), expected);
        }
    }
}

//! One entry of the journal, as `journalctl --output=json` writes it.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::sources::writers::is_person;
use crate::time::Timestamp;

#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "__CURSOR")]
    pub(super) cursor: String,
    /// Microseconds since 1970, as text.
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    realtime: String,
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    #[serde(rename = "SYSLOG_IDENTIFIER", default)]
    identifier: Value,
    #[serde(rename = "_COMM", default)]
    command: Value,
    #[serde(rename = "_PID", default)]
    process: Value,
    /// Whose process wrote it, and which program that was; journald vouches for both.
    #[serde(rename = "_UID", default)]
    user: Value,
    #[serde(rename = "_EXE", default)]
    executable: Value,
}

/// Where everybody may put a program, in paths that journald resolved.
const ANYBODYS: [&str; 6] = ["/home/", "/tmp/", "/var/tmp/", "/dev/shm/", "/run/user/", "/media/"];

/// A field: text, or an array of bytes where it is not UTF-8, or an array of those where an entry has it several times,
/// or null where it is too long.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Bytes(Vec<u8>),
    Several(Vec<Value>),
    Other(IgnoredAny),
    #[default]
    #[serde(skip)]
    Absent,
}

impl Entry {
    pub(super) fn parse(line: &[u8]) -> Option<Entry> {
        serde_json::from_slice(line).ok()
    }

    pub(super) fn time(&self) -> Timestamp {
        Timestamp::from_micros(self.realtime.parse().unwrap_or(0))
    }

    /// Who wrote it, if that is nobody who runs a service of this machine: a person, or a program that a person may have
    /// put there. An entry of the kernel or of journald has neither.
    pub(super) fn foreign(&self) -> Option<String> {
        let text = |value: &Value| value.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        if let Some(user) = text(&self.user).filter(|user| user.parse().ok().is_none_or(is_person)) {
            return Some(format!("user {user}"));
        }
        let executable = text(&self.executable)?;
        ANYBODYS.iter().any(|folder| executable.starts_with(folder)).then_some(executable)
    }

    /// Empty where there is none.
    pub(super) fn message(&self) -> &[u8] {
        self.message.bytes().unwrap_or_default()
    }

    /// The writer's process id; empty where there is none.
    pub(super) fn process(&self) -> &[u8] {
        self.process.bytes().unwrap_or_default()
    }

    /// What the writer calls itself, else the name of its process.
    pub(super) fn program(&self) -> &[u8] {
        self.identifier.bytes().or_else(|| self.command.bytes()).unwrap_or_default()
    }
}

impl Value {
    /// Of several values the first.
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Text(text) => Some(text.as_bytes()),
            Value::Bytes(bytes) => Some(bytes),
            Value::Several(values) => values.first().and_then(Value::bytes),
            Value::Other(_) | Value::Absent => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &str) -> Entry {
        let line = format!(r#"{{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1795224600000001",{fields}}}"#);
        Entry::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn text_bytes_and_null_are_messages() {
        let text = entry(r#""MESSAGE":"Failed password","SYSLOG_IDENTIFIER":"sshd","_COMM":"sshd-session""#);
        assert_eq!((text.program(), text.message()), (&b"sshd"[..], &b"Failed password"[..]));
        assert_eq!((text.cursor.as_str(), text.time().as_micros()), ("s=1;i=2", 1_795_224_600_000_001));
        assert_eq!(entry(r#""MESSAGE":[70,255,10]"#).message(), b"F\xff\n");
        assert_eq!(entry(r#""MESSAGE":null,"_COMM":"sshd""#).message(), b"");
        assert_eq!(entry(r#""_COMM":"sshd""#).program(), b"sshd");
    }

    #[test]
    fn of_a_field_with_several_values_the_first_counts() {
        assert_eq!(entry(r#""MESSAGE":["one","two"]"#).message(), b"one");
        assert_eq!(entry(r#""MESSAGE":[[111,255],"two"]"#).message(), b"o\xff");
    }

    #[test]
    fn what_a_person_wrote_in_the_name_of_a_service_is_foreign() {
        let foreign = |fields: &str| entry(fields).foreign();
        assert_eq!(foreign(r#""_UID":"0","_EXE":"/usr/sbin/sshd""#), None);
        assert_eq!(foreign(r#""_UID":"33","_EXE":"/usr/sbin/apache2""#), None);
        assert_eq!(foreign(r#""_UID":"61184","_EXE":"/usr/bin/app""#), None, "a user that systemd made for a service");
        assert_eq!(foreign(r#""MESSAGE":"of the kernel""#), None);
        assert_eq!(foreign(r#""_UID":"1000","_EXE":"/usr/bin/logger""#), Some("user 1000".to_owned()));
        assert_eq!(foreign(r#""_UID":"x""#), Some("user x".to_owned()));
        assert_eq!(foreign(r#""_UID":"0","_EXE":"/home/ann/sshd""#), Some("/home/ann/sshd".to_owned()));
    }

    #[test]
    fn what_is_not_an_entry_is_none() {
        assert!(Entry::parse(b"-- No entries --\n").is_none());
        assert!(Entry::parse(br#"{"MESSAGE":"no cursor"}"#).is_none());
    }
}

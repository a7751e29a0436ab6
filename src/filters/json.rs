//! Rules on the fields of a JSON object. In: a line that is one, or the message of a syslog line that is one.
//! Out: the offender of an object that fulfils all conditions. Text before the object never counts as part of it.

use regex::bytes::Regex;
use serde_json::Value;

use super::account::User;
use super::address;
use super::literals;
use super::pattern::TextRule;
use super::timestamp::{self, Stamp};
use super::{Offender, Told};

/// The way to a field, as `request.remote_ip`: steps into objects, or one key with dots in its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldPath(String);

/// What a filter asks of an object.
#[derive(Debug)]
pub(crate) struct JsonRule {
    pub(crate) offender: Source,
    pub(crate) user: Option<FieldPath>,
    pub(crate) time: Option<FieldPath>,
    /// All must hold.
    pub(crate) conditions: Vec<Condition>,
}

/// Where the offender stands.
#[derive(Debug)]
pub(crate) enum Source {
    /// The field is the address, perhaps with a port.
    Field(FieldPath),
    /// The field is text with the address in it.
    Text(FieldPath, Box<TextRule>),
}

/// A condition on one field.
#[derive(Debug)]
pub(crate) enum Condition {
    /// The field is one of these scalars.
    OneOf(FieldPath, Vec<Scalar>),
    /// The field is text that matches.
    Matches(FieldPath, Regex),
}

/// A value that a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Text(String),
    Number(i64),
    Bool(bool),
}

/// Fields that commonly hold the time, tried in turn when a filter names none.
const TIME_FIELDS: [&str; 6] = ["time", "timestamp", "ts", "@timestamp", "datetime", "date"];

impl FieldPath {
    pub(crate) fn new(path: &str) -> Option<FieldPath> {
        let valid = !path.is_empty() && path.split('.').all(|step| !step.is_empty());
        valid.then(|| FieldPath(path.to_owned()))
    }

    fn of<'v>(&self, object: &'v Value) -> Option<&'v Value> {
        object.get(&self.0).or_else(|| self.0.split('.').try_fold(object, |value, step| value.get(step)))
    }

    /// The end of the path, as every line with the field contains it.
    fn literal(&self) -> Vec<u8> {
        let literal = match self.0.rsplit_once('.') {
            // A key of its own, or the end of one with a dot in it.
            Some((_, last)) => format!("{last}\""),
            None => format!("\"{}\"", self.0),
        };
        literal.into_bytes()
    }
}

impl Scalar {
    fn equals(&self, value: &Value) -> bool {
        match self {
            Scalar::Text(text) => value.as_str() == Some(text),
            Scalar::Number(number) => value.as_i64() == Some(*number),
            Scalar::Bool(flag) => value.as_bool() == Some(*flag),
        }
    }

    /// How an object with this value writes it, if there are few ways.
    fn literals(&self) -> Option<Vec<Vec<u8>>> {
        match self {
            Scalar::Text(text) => Some(vec![plainest(text.as_bytes())?]),
            // With what stands around it: bare digits are in too many lines.
            Scalar::Number(number) => {
                let written = |before| [",", "}", " "].map(|after| format!("{before}{number}{after}").into_bytes());
                Some([":", " "].into_iter().flat_map(written).collect())
            }
            Scalar::Bool(_) => None,
        }
    }
}

/// The longest piece of a text that JSON never writes otherwise; `None` where it is too short to tell anything.
fn plainest(text: &[u8]) -> Option<Vec<u8>> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" _.-:".contains(byte);
    let longest = text.split(|byte| !is_plain(byte)).max_by_key(|piece| piece.len())?;
    (longest.len() >= 3).then(|| longest.to_vec())
}

impl Condition {
    fn path(&self) -> &FieldPath {
        let (Condition::OneOf(path, _) | Condition::Matches(path, _)) = self;
        path
    }

    fn holds(&self, object: &Value) -> bool {
        match self {
            Condition::OneOf(path, allowed) => {
                path.of(object).is_some_and(|value| allowed.iter().any(|scalar| scalar.equals(value)))
            }
            Condition::Matches(path, regex) => {
                path.of(object).and_then(Value::as_str).is_some_and(|text| regex.is_match(text.as_bytes()))
            }
        }
    }
}

/// The object that a whole text is.
pub(super) fn object(text: &[u8]) -> Option<Value> {
    if text.starts_with(b"{") { serde_json::from_slice(text).ok() } else { None }
}

impl JsonRule {
    /// Texts one of which every matching line contains.
    pub(crate) fn literals(&self) -> Vec<Vec<u8>> {
        let of_condition = |condition: &Condition| match condition {
            Condition::OneOf(_, allowed) => {
                let each = allowed.iter().map(Scalar::literals).collect::<Option<Vec<_>>>();
                each.map(|literals| literals.concat())
            }
            Condition::Matches(..) => None,
        };
        let (Source::Field(path) | Source::Text(path, _)) = &self.offender;
        let keys = self.conditions.iter().map(Condition::path).chain([path]).map(|path| vec![path.literal()]);
        let values = self.conditions.iter().filter_map(of_condition);
        let text = match &self.offender {
            Source::Text(_, rule) => rule.literals.iter().map(|text| plainest(text)).collect::<Option<Vec<_>>>(),
            Source::Field(_) => None,
        };
        literals::best(values.chain(text).chain(keys))
    }

    /// Why an object that does not hit does not: a sentence for the author of the filter.
    pub(crate) fn objection(&self, text: &[u8]) -> &'static str {
        match serde_json::from_slice::<Value>(text) {
            Err(_) => "The line is not a whole JSON object.",
            Ok(object) if !self.conditions.iter().all(|condition| condition.holds(&object)) => {
                "A field is missing, or not what the pattern wants."
            }
            Ok(_) => "The fields fit, but no address stands where the pattern looks for it.",
        }
    }

    pub(crate) fn names_user(&self) -> bool {
        self.user.is_some() || matches!(&self.offender, Source::Text(_, rule) if rule.names_user())
    }

    /// Whether no text of an attacker can stand in the place of the user: a field is the whole name.
    pub(crate) fn settles_user(&self) -> bool {
        match &self.offender {
            Source::Field(_) => self.user.is_some(),
            // The text has a say where the field is missing.
            Source::Text(_, rule) => rule.settles_user() || (self.user.is_some() && !rule.names_user()),
        }
    }

    pub(crate) fn find(&self, object: &Value) -> Option<Told> {
        if !self.conditions.iter().all(|condition| condition.holds(object)) {
            return None;
        }
        let user = self.user.as_ref().and_then(|path| path.of(object)?.as_str());
        let user = user.and_then(|name| User::new(name.as_bytes()));
        let stamp = self.stamp(object);
        match &self.offender {
            Source::Field(path) => {
                let text = path.of(object)?.as_str()?.trim().as_bytes();
                let offender = address::whole(text).map(Offender::Address).or_else(|| {
                    let found = address::offender_at(text, 0).filter(|found| found.end == text.len())?;
                    Some(found.offender.into())
                })?;
                Some(Told { user, stamp, ..Told::of(offender) })
            }
            Source::Text(path, rule) => {
                let found = rule.find(path.of(object)?.as_str()?.as_bytes())?;
                let user = user.or_else(|| found.user());
                Some(Told { user, stamp, ..Told::of(found.offender.into()) })
            }
        }
    }

    fn stamp(&self, object: &Value) -> Option<Stamp> {
        if let Some(path) = &self.time {
            return stamp_of(path.of(object)?);
        }
        TIME_FIELDS.iter().find_map(|field| stamp_of(object.get(field)?))
    }
}

fn stamp_of(value: &Value) -> Option<Stamp> {
    match value {
        Value::String(text) => timestamp::leading(text.as_bytes()).map(|(stamp, _)| stamp),
        Value::Number(number) => timestamp::leading(number.to_string().as_bytes()).map(|(stamp, _)| stamp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FieldPath {
        FieldPath::new(text).unwrap()
    }

    fn rule(offender: Source, conditions: Vec<Condition>) -> JsonRule {
        JsonRule { offender, user: Some(path("user")), time: None, conditions }
    }

    fn found(rule: &JsonRule, text: &[u8]) -> Option<Told> {
        rule.find(&object(text)?)
    }

    #[test]
    fn a_field_counts_only_when_all_conditions_hold() {
        let status = Condition::OneOf(path("status"), vec![Scalar::Number(401), Scalar::Number(403)]);
        let rule = rule(Source::Field(path("request.remote_ip")), vec![status]);
        let told =
            found(&rule, br#"{"status":401,"user":"bob","ts":1795224600.5,"request":{"remote_ip":"192.0.2.1:9"}}"#);
        let told = told.unwrap();
        assert_eq!(told.offender, Offender::Address("192.0.2.1".parse().unwrap()));
        assert_eq!(told.user.as_deref(), Some("bob"));
        assert!(told.stamp.is_some());
        for other in [
            r#"{"status":200,"request":{"remote_ip":"192.0.2.1"}}"#,
            r#"{"status":401,"request":{"remote_ip":7}}"#,
            r#"x {"status":401,"request":{"remote_ip":"192.0.2.1"}}"#,
            r#"{"status":401,"request":{"remote_ip":"192.0.2.1"}"#,
        ] {
            assert!(found(&rule, other.as_bytes()).is_none(), "{other}");
        }
        assert_eq!(rule.literals(), [b"remote_ip\""]);
    }

    #[test]
    fn an_address_within_a_field_is_found_by_a_pattern() {
        let text = TextRule::new("^login of (?<user>.*) failed from <ADDR>$").unwrap();
        let rule = rule(Source::Text(path("msg"), Box::new(text)), vec![]);
        let told = found(&rule, br#"{"msg":"login of a failed from 192.0.2.1 failed from 203.0.113.5"}"#).unwrap();
        assert_eq!(told.offender, Offender::Address("203.0.113.5".parse().unwrap()));
        assert_eq!(rule.literals(), [b" failed from "]);
    }
}

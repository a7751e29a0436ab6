//! How ports are written: `443/tcp`.

use std::fmt;
use std::str::FromStr;

use super::{Port, Protocol};

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// Why a text is not a port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PortError {
    NoProtocol,
    UnknownProtocol(String),
    BadNumber(String),
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortError::NoProtocol => f.write_str("a port needs its protocol: write 443/tcp or 53/udp"),
            PortError::UnknownProtocol(text) => {
                write!(f, "'{}' is not a protocol with ports here: write tcp or udp", text.escape_debug())
            }
            PortError::BadNumber(text) => {
                write!(f, "'{}' is not a port number: ports are 1 to 65535", text.escape_debug())
            }
        }
    }
}

impl std::error::Error for PortError {}

impl FromStr for Port {
    type Err = PortError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, protocol) = text.split_once('/').ok_or(PortError::NoProtocol)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(PortError::UnknownProtocol(other.to_owned())),
        };
        let digits_only = number.bytes().all(|byte| byte.is_ascii_digit());
        match number.parse() {
            Ok(number) if number > 0 && digits_only => Ok(Port { protocol, number }),
            _ => Err(PortError::BadNumber(number.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_written_in_the_same_form() {
        for text in ["443/tcp", "1/udp", "65535/tcp"] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_wrong_port_says_what_is_wrong() {
        assert_eq!("443".parse::<Port>(), Err(PortError::NoProtocol));
        assert_eq!("443/icmp".parse::<Port>(), Err(PortError::UnknownProtocol("icmp".to_owned())));
        for number in ["0", "65536", "+443", "", "ssh"] {
            assert_eq!(format!("{number}/tcp").parse::<Port>(), Err(PortError::BadNumber(number.to_owned())));
        }
    }
}

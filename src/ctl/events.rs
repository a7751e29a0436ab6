//! `banctl events`: what the daemon does, as it happens.

use crate::text::escape;
use std::io::Write;

use crate::control::client;
use crate::control::{Command, Event, Kind, Reply};

use super::output::Style;
use super::when::Reader;
use super::{Context, Error, target};

pub(super) fn run(context: &mut Context) -> Result<(), Error> {
    let mut connection = context.connect()?;
    for reply in connection.ask(Command::Events)? {
        match reply? {
            Reply::Event(event) if context.globals.json => context.out.json(&event)?,
            Reply::Event(event) => print(&event, context)?,
            Reply::Refused { message } => return Err(Error::Refused(message)),
            Reply::Done { .. } => break,
            _ => return Err(client::Error::Unexpected.into()),
        }
        context.out.flush()?;
    }
    Ok(())
}

fn print(event: &Event, context: &mut Context) -> Result<(), Error> {
    let reader = Reader::new(context.out.is_terminal());
    let style = match event.kind {
        Kind::Banned | Kind::Limited => Style::Warning,
        Kind::Trouble | Kind::Lost => Style::Bad,
        Kind::Unbanned | Kind::Recovered | Kind::Repaired => Style::Good,
        _ => Style::Quiet,
    };
    let word = context.out.styled(style, &format!("{:<9}", event.kind.as_str()));
    let time = reader.show_seconds(event.time);
    let mut line = format!("{time}  {word}");
    if let Some(prefix) = &event.prefix {
        line.push_str("  ");
        line.push_str(&target::show(prefix));
    }
    for text in [event.jail.as_deref(), Some(&*event.text)].into_iter().flatten() {
        line.push_str("  ");
        line.push_str(&escape(text));
    }
    Ok(context.out.line(&line)?)
}

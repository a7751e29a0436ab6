//! `banctl reload`: the daemon reads its configuration again. A wrong one changes nothing.

use crate::control::Command;

use super::{Context, Error};

pub(super) fn run(context: &mut Context) -> Result<(), Error> {
    let mut connection = context.connect()?;
    let outcome = context.order(&mut connection, Command::Reload)?;
    if outcome.is_refused() { Err(Error::Said) } else { Ok(()) }
}

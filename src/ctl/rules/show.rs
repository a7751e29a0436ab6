//! `banctl rules show`: the rules as text.

use serde::Serialize;

use super::{ShowOptions, ShownFormat, Wanted};
use crate::ctl::{Context, Error};
use crate::rules::live::{Format, State};
use crate::rules::{nftables, saved, shell};

/// What one tool is to be given, as JSON.
#[derive(Debug, Serialize)]
struct Row {
    tool: &'static str,
    text: String,
    /// What stands above it for people, who get all in one.
    #[serde(skip)]
    heading: &'static str,
}

pub(super) fn run(options: &ShowOptions, context: &mut Context) -> Result<(), Error> {
    let format = options.format.map(|format| match format {
        ShownFormat::Nft => Format::Nftables,
        ShownFormat::Iptables | ShownFormat::Sh => Format::Iptables,
    });
    let wanted = Wanted::read(context, format)?;
    let rows = match (options.format, wanted.format) {
        (Some(ShownFormat::Sh), _) => script(&wanted.state()),
        (_, Format::Nftables) => table(&wanted.state()),
        (_, Format::Iptables) => tables(&wanted.state()),
    };
    for row in &rows {
        if context.globals.json {
            context.out.json(row)?;
        } else {
            row.heading.lines().chain(row.text.lines()).try_for_each(|line| context.out.line(line))?;
        }
    }
    Ok(())
}

fn script(State { v4, v6, nft }: &State) -> Vec<Row> {
    vec![Row { tool: "sh", text: shell::script(v4, v6, nft.as_deref()), heading: "" }]
}

/// Loaded twice, it is there once.
fn table(State { nft, .. }: &State) -> Vec<Row> {
    vec![Row { tool: "nft", text: nftables::script(nft.as_deref()), heading: "" }]
}

fn tables(State { v4, v6, nft }: &State) -> Vec<Row> {
    let mut rows = vec![
        Row { tool: "iptables-restore", text: saved::fresh(v4), heading: "# for iptables-restore --noflush" },
        Row { tool: "ip6tables-restore", text: saved::fresh(v6), heading: "# for ip6tables-restore --noflush" },
    ];
    if nft.is_some() {
        let text = nftables::script(nft.as_deref());
        rows.push(Row { tool: "nft", text, heading: "# for nft: iptables sees no fragments" });
    }
    rows
}

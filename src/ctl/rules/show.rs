//! `banctl rules show`: the rules as text.

use super::{ShowOptions, ShownFormat, Wanted};
use crate::ctl::{Context, Error};
use crate::rules::live::{Format, State};
use crate::rules::{nftables, saved, shell};

pub(super) fn run(options: &ShowOptions, context: &mut Context) -> Result<(), Error> {
    let format = options.format.map(|format| match format {
        ShownFormat::Nft => Format::Nftables,
        ShownFormat::Iptables | ShownFormat::Sh => Format::Iptables,
    });
    let wanted = Wanted::read(context, format)?;
    let State { v4, v6, nft } = wanted.state();
    let text = match (options.format, wanted.format) {
        (Some(ShownFormat::Sh), _) => shell::script(&v4, &v6, nft.as_deref()),
        // Loaded twice, it is there once.
        (_, Format::Nftables) => nftables::script(nft.as_deref()),
        (_, Format::Iptables) => {
            let note = "# for nft: iptables sees no fragments";
            let rest = nft.map(|table| format!("{note}\n{}", nftables::script(Some(&table)))).unwrap_or_default();
            let (v4, v6) = (saved::fresh(&v4), saved::fresh(&v6));
            format!("# for iptables-restore --noflush\n{v4}# for ip6tables-restore --noflush\n{v6}{rest}")
        }
    };
    text.lines().try_for_each(|line| context.out.line(line))?;
    Ok(())
}

//! The rules as a shell script, for machines without `banctl`. Run twice it changes nothing, and it names no chain of
//! anybody else but for the jumps.

use std::fmt::Write as _;

use super::iptables::{TABLES, Tables};

/// A script that makes the rules of both families, and with `stop` takes them out again.
pub(crate) fn script(v4: &Tables, v6: &Tables, nft: Option<&str>) -> String {
    let families = [("iptables", v4), ("ip6tables", v6)];
    let tables = || {
        families
            .into_iter()
            .flat_map(|(tool, tables)| TABLES.iter().filter_map(move |name| Some((tool, *name, tables.get(*name)?))))
    };
    let mut text = HEAD.to_owned();
    text.push_str("if [ \"${1-}\" = stop ]; then\n");
    for (tool, name, table) in tables() {
        for (hook, to) in &table.jumps {
            let _ = writeln!(text, "    {tool} -w -t {name} -D {hook} -j {to} 2>/dev/null || :");
        }
    }
    for (tool, name, table) in tables() {
        for command in ["-F", "-X"] {
            for chain in table.chains.keys() {
                let _ = writeln!(text, "    {tool} -w -t {name} {command} {chain} 2>/dev/null || :");
            }
        }
    }
    if nft.is_some() {
        let _ = writeln!(text, "    nft delete table inet {} 2>/dev/null || :", super::nftables::TABLE);
    }
    text.push_str("    exit 0\nfi\n");
    for (tool, tables) in families {
        let _ = write!(text, "{tool}-restore --noflush <<'EOF'\n{}EOF\n", chains_alone(tables));
    }
    if let Some(table) = nft {
        let _ = write!(text, "nft -f - <<'EOF'\n{}EOF\n", super::nftables::script(Some(table)));
    }
    for (tool, name, table) in tables() {
        for (hook, to) in &table.jumps {
            let _ = writeln!(text, "jump {tool} {name} {hook} {to}");
        }
    }
    text
}

/// A jump that is there stays; a new one goes behind the one to Banward's bans.
const HEAD: &str = "\
#!/bin/sh
# Made by 'banctl rules show --format sh'. With the argument 'stop' the rules go again.
set -eu
jump() {
    \"$1\" -w -t \"$2\" -C \"$3\" -j \"$4\" 2>/dev/null && return
    case \"$(\"$1\" -w -t \"$2\" -S \"$3\" 1)\" in
        *\"-j BANWARD\"|*\"-j BANWARD-OUT\") \"$1\" -w -t \"$2\" -I \"$3\" 2 -j \"$4\" ;;
        *) \"$1\" -w -t \"$2\" -I \"$3\" 1 -j \"$4\" ;;
    esac
}
";

/// The chains alone: the jumps follow when both families stand.
fn chains_alone(tables: &Tables) -> String {
    let mut tables = tables.clone();
    for table in tables.values_mut() {
        table.jumps.clear();
    }
    super::saved::fresh(&tables)
}

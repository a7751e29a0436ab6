//! A door for fuzzers: each parser of bytes that others write, with the laws that hold for it whatever the bytes are.
//! In: any bytes. Out: nothing, or a panic that names the law. Only tests and the feature `fuzzing` have it.
//!
//! To add a target: a function beside the parser, a line in [`TARGETS`], and a file in `fuzz/fuzz_targets`.

pub mod seeds;

#[cfg(test)]
mod mutate;
#[cfg(test)]
mod tests;

/// One parser under attack.
pub struct Target {
    pub name: &'static str,
    /// Panics when a law is broken.
    pub run: fn(&[u8]),
    /// Inputs as they are in real life, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 12] = [
    Target { name: "line", run: crate::filters::hostile::line, seeds: seeds::lines },
    Target { name: "json", run: crate::filters::hostile::json, seeds: seeds::json_lines },
    Target { name: "header", run: crate::filters::hostile::header, seeds: seeds::lines },
    Target { name: "stamp", run: crate::filters::hostile::stamp, seeds: seeds::stamps },
    Target { name: "netfilter", run: crate::filters::hostile::netfilter, seeds: seeds::kernel_lines },
    Target { name: "filter_file", run: crate::filters::hostile::filter_file, seeds: seeds::filter_files },
    Target { name: "record", run: crate::sources::hostile::record, seeds: seeds::records },
    Target { name: "blocklist", run: crate::firewall::hostile::blocklist, seeds: seeds::blocklists },
    Target { name: "netlink", run: crate::firewall::hostile::netlink, seeds: crate::firewall::hostile::replies },
    Target { name: "ledger", run: crate::ledger::hostile::ledger, seeds: seeds::ledger },
    Target { name: "control", run: crate::control::hostile::control, seeds: seeds::requests },
    Target { name: "convert", run: crate::ctl::hostile, seeds: seeds::fail2ban },
];

/// Writes the seeds of this target into the folder that `BANWARD_SEEDS` names, if it names one.
///
/// # Panics
/// When there is no such target, or the folder cannot be written.
pub fn sow(name: &str) {
    let Some(folder) = std::env::var_os("BANWARD_SEEDS").map(std::path::PathBuf::from) else { return };
    for (number, seed) in (target(name).seeds)().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed).expect("the folder of seeds can be written");
    }
}

/// Runs the target of this name.
///
/// # Panics
/// When there is none, or when a law is broken.
pub fn run(name: &str, data: &[u8]) {
    (target(name).run)(data);
}

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a fuzz target is one of TARGETS")
}

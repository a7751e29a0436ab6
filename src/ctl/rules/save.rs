//! `banctl rules save` and `restore`: over a boot. Where netfilter-persistent keeps its files, in those, together with
//! the rules of others; else in files of our own, which `banctl rules restore` reads.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{SaveOptions, done, refused};
use crate::ctl::{Context, Error, Outcome, settings};
use crate::rules::live::{Kernel, State};
use crate::rules::model::Family;
use crate::rules::saved;

/// Where iptables-persistent keeps what netfilter-persistent loads.
const PERSISTENT: &str = "/etc/iptables";
const FILES: [(&str, Family); 2] = [("rules.v4", Family::V4), ("rules.v6", Family::V6)];
const NFT_FILE: &str = "banward-host.nft";

fn folder(options: &SaveOptions, context: &Context) -> Result<(PathBuf, String), Error> {
    let config = settings::flawless(&context.globals)?;
    let chain = config.firewall.chain.as_str().to_owned();
    if let Some(folder) = &options.folder {
        return Ok((folder.clone(), chain));
    }
    let persistent = PathBuf::from(PERSISTENT);
    Ok((if persistent.is_dir() { persistent } else { config.daemon.state_dir }, chain))
}

/// Writes what the kernel holds.
pub(super) fn save(options: &SaveOptions, context: &Context) -> Result<Outcome, Error> {
    let (folder, chain) = folder(options, context)?;
    let kernel = Kernel::open()?;
    let state = kernel.state()?;
    if state == State::default() {
        return Err(refused("the kernel holds no rules of [host]; 'banctl rules apply' puts them there."));
    }
    for (name, family) in FILES {
        let path = folder.join(name);
        let ours = if family == Family::V4 { &state.v4 } else { &state.v6 };
        // A file that still has rules of ours would bring them back.
        if ours.is_empty() && saved::ours(&read(&path)?.unwrap_or_default()).is_empty() {
            continue;
        }
        if let Some(text) = kernel.save(family)? {
            write(&path, &saved::without_bans(&text, &chain))?;
        }
    }
    let path = folder.join(NFT_FILE);
    write(&path, state.nft.as_deref().unwrap_or_default())?;
    Ok(done(format!("the rules are saved in {}.", folder.display())))
}

/// Puts saved rules of ours into the kernel, and nobody else's.
pub(super) fn restore(options: &SaveOptions, context: &Context) -> Result<Outcome, Error> {
    let (folder, _) = folder(options, context)?;
    let mut state = State::default();
    for (name, family) in FILES {
        let text = read(&folder.join(name))?;
        let tables = saved::ours(&text.unwrap_or_default());
        match family {
            Family::V4 => state.v4 = tables,
            Family::V6 => state.v6 = tables,
        }
    }
    state.nft = read(&folder.join(NFT_FILE))?.filter(|text| !text.is_empty());
    if state == State::default() {
        return Err(refused(format!("{} has no saved rules of [host].", folder.display())));
    }
    Kernel::open()?.put(&state)?;
    Ok(done(format!("the rules are those saved in {}.", folder.display())))
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::File(path.to_owned(), error)),
    }
}

/// Whole or not at all: half a file would leave the machine without rules after the next boot.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |error: io::Error| refused(format!("{} cannot be written: {error}.", path.display()));
    let draft = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o640).open(&draft).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&draft, path).map_err(failed)
}

//! `banctl completions`: what a shell needs to complete command lines of `banctl`.

use std::io::Write;

use clap::{Args, CommandFactory, ValueEnum};

use super::{Cli, Context, Error};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banctl completions bash > /usr/share/bash-completion/completions/banctl
  banctl completions zsh  > /usr/share/zsh/site-functions/_banctl
  banctl completions fish > /usr/share/fish/vendor_completions.d/banctl.fish")]
pub(super) struct Options {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    let shell = match options.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // Not straight to stdout: the generator panics when its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "banctl", &mut script);
    Ok(context.out.write_all(&script)?)
}

//! `banctl`: one file per subcommand.

/// The program `banctl`.
pub fn banctl_main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}

//! Start-up order, the one loop, reload and stop.

/// The program `banward`.
pub fn banward_main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}

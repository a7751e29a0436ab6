fn main() -> std::process::ExitCode {
    banward::banctl_main()
}

fn main() -> std::process::ExitCode {
    banward::banward_main()
}

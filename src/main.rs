//! The one binary: see `blvm-stratum-v2 --help`.

fn main() -> std::process::ExitCode {
    blvm_stratum_v2::cli::main()
}

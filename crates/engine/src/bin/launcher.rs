//! The launcher of programs as a binary of its own, for those who embed the engine and do not
//! want their own binary to be it.

fn main() {
    #[cfg(target_os = "linux")]
    anteroom::run::exec::launcher::run_if_asked();
    eprintln!("anteroom-launcher starts the programs of exec tasks; it is not for people");
    std::process::exit(2);
}

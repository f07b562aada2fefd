use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where a foreign program is, or `None` after having said that the test is skipped.
///
/// Under CI a skip for a program that `ci/install.sh` installs fails the run.
pub fn program(test: &str, name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        crate::skip(test, &format!("{name} is not installed"));
    }
    found
}

/// A Python that has these modules, or `None` after having said that the test is skipped.
///
/// It is the one that `SINEW_PYTHON` names, the one that `ci/install.sh` prepared, or the system's.
pub fn python(test: &str, modules: &[&str]) -> Option<PathBuf> {
    let prepared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    let candidates = std::env::var_os("SINEW_PYTHON").map(PathBuf::from);
    let candidates = candidates
        .into_iter()
        .chain([prepared, PathBuf::from("python3")]);
    let imports = format!("import {}", [&["sys"], modules].concat().join(", "));
    let found = candidates.into_iter().find(|python| {
        let status = Command::new(python)
            .args(["-c", &imports])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    });
    if found.is_none() {
        let what = modules.join(" or ");
        crate::skip(test, &format!("Python with {what} is not installed"));
    }
    found
}

/// Compiles a C program into a directory; `None` after having said that the test is skipped.
pub fn compile_c(test: &str, source: &str, directory: &Path, name: &str) -> Option<PathBuf> {
    let compiler = program(test, "cc")?;
    let file = directory.join(format!("{name}.c"));
    let output = directory.join(name);
    std::fs::write(&file, source).unwrap();
    let status = Command::new(compiler)
        .args(["-O1", "-Wall", "-Werror", "-pthread", "-o"])
        .arg(&output)
        .arg(&file)
        .arg("-lrt")
        .status()
        .unwrap();
    assert!(status.success(), "{name}.c does not compile");
    Some(output)
}

//! The limits that the kernel has in `/proc/sys`.

/// The value of a sysctl, by its name with dots; `None` where it cannot be read.
pub(crate) fn read(name: &str) -> Option<u64> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `name is value`, or what can be said of it.
pub(crate) fn shown(name: &str) -> String {
    match read(name) {
        Some(value) => format!("{name} is {value}"),
        None => format!("{name} is exceeded"),
    }
}

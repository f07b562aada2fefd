use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;

use super::fault::Fault;
use super::keys::{self, Key};
use super::value::Kind;
use super::{Address, Parameter, Scheme, escape, nearest, rest};

/// Parses an address. The fault's range is in `input`.
pub(super) fn parse(input: &str) -> Result<Address, Fault> {
    let Some((scheme, body)) = input.split_once(':') else {
        return Err(no_scheme(input));
    };
    if scheme.is_empty() || scheme.contains(['/', '?', '&', '=', '@', '%']) {
        return Err(no_scheme(input));
    }
    let scheme = Scheme::find(scheme)?;
    let rest_at = scheme.as_str().len() + 1;

    let (encoded, query) = match body.split_once('?') {
        Some((encoded, query)) => (encoded, Some(query)),
        None => (body, None),
    };
    if let Scheme::Tcp | Scheme::Udp = scheme {
        rest::check_zone(encoded).map_err(|fault| fault.shifted(rest_at))?;
    }
    if scheme == Scheme::Exec {
        rest::check_escapes(encoded).map_err(|fault| fault.shifted(rest_at))?;
    }
    let rest = decode(encoded, rest_at)?;
    rest::check(scheme, &rest).map_err(|fault| placed(fault, encoded, rest_at))?;

    let mut address = Address {
        scheme,
        rest: OsString::from_vec(rest),
        parameters: Vec::new(),
    };
    if let Some(query) = query {
        let mut at = rest_at + encoded.len() + 1;
        for part in query.split('&') {
            let parameter = parameter(scheme, part, at)?;
            let range = at..at + part.len();
            check_others(&address, &parameter, range)?;
            address.parameters.push(parameter);
            at += part.len() + 1;
        }
    }
    Ok(address)
}

fn no_scheme(input: &str) -> Fault {
    Fault::new(0..0, "there is no scheme").remedy(format!(
        "an address is `scheme:rest?key=value`, for example `{}`",
        if input.starts_with('/') {
            "unix:/run/x.sock"
        } else {
            "tcp:127.0.0.1:9000"
        }
    ))
}

fn parameter(scheme: Scheme, part: &str, at: usize) -> Result<Parameter, Fault> {
    let (name, value) = match part.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (part, None),
    };
    let name_range = at..at + name.len();
    if name.is_empty() {
        return Err(
            Fault::new(name_range, "the name of a parameter is missing").remedy(
                "write `%3F` for a question mark and `%26` for an ampersand that mean themselves",
            ),
        );
    }
    let known = keys::of(scheme);
    let Some(&Key { name, kind }) = known.iter().find(|key| key.name == name) else {
        return Err(unknown(scheme, name, name_range));
    };
    let value = match (kind, value) {
        (Kind::Flag, None) => None,
        (Kind::Flag, Some(value)) => {
            let end = name_range.end;
            return Err(Fault::new(
                end..end + 1 + value.len(),
                format!("`{name}` takes no value"),
            )
            .remedy(format!("write `{name}` alone")));
        }
        (_, None) => {
            return Err(Fault::new(name_range, format!("`{name}` needs a value"))
                .remedy(format!("write `{name}=` and the value")));
        }
        (kind, Some(value)) => {
            let value_at = name_range.end + 1;
            let decoded = decode(value, value_at)?;
            kind.check(&decoded).map_err(|mut fault| {
                fault.reason = format!("`{name}`: {}", fault.reason).into();
                placed(fault, value, value_at)
            })?;
            Some(OsString::from_vec(decoded))
        }
    };
    Ok(Parameter { key: name, value })
}

pub(super) fn unknown(scheme: Scheme, name: &str, range: Range<usize>) -> Fault {
    let fault = Fault::new(range, format!("`{scheme}` has no parameter `{name}`"));
    match nearest::find(name, scheme.keys()) {
        Some(near) => fault.meant(near),
        None => fault.remedy(format!(
            "it has {}; write `%3F` for a question mark that means itself",
            scheme.keys().collect::<Vec<_>>().join(", ")
        )),
    }
}

fn check_others(
    address: &Address,
    parameter: &Parameter,
    range: Range<usize>,
) -> Result<(), Fault> {
    let key = parameter.key;
    if address.flag(key) {
        return Err(Fault::new(range, format!("`{key}` is given twice")).remedy("keep one"));
    }
    for &(one, other) in keys::EXCLUSIVE {
        let rival = match key {
            _ if key == one => other,
            _ if key == other => one,
            _ => continue,
        };
        if address.flag(rival) {
            return Err(
                Fault::new(range, format!("`{key}` and `{rival}` exclude each other"))
                    .remedy("keep one"),
            );
        }
    }
    Ok(())
}

fn decode(encoded: &str, at: usize) -> Result<Vec<u8>, Fault> {
    escape::decode(encoded).map_err(|range| {
        Fault::new(range, "a `%` without two hexadecimal digits")
            .remedy("write `%25` for a percent sign")
            .shifted(at)
    })
}

/// Moves a fault from the decoded part to the address in which the part, encoded, begins at `at`.
fn placed(mut fault: Fault, encoded: &str, at: usize) -> Fault {
    fault.range = escape::encoded_offset(encoded, fault.range.start)
        ..escape::encoded_offset(encoded, fault.range.end);
    fault.shifted(at)
}

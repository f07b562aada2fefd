//! Whatever parses, prints as something that parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_core::Address;

fuzz_target!(|text: &str| {
    if let Ok(address) = text.parse::<Address>() {
        let printed = address.to_string();
        let again: Address = printed.parse().expect("a printed address parses");
        assert_eq!(again, address);
        assert_eq!(again.to_string(), printed);
    }
});

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};

/// A set of the attributes that a [`Message`](crate::Message) can carry besides its payload.
///
/// # Examples
///
/// ```
/// use sinew_core::Attributes;
///
/// let queue = Attributes::PRIORITY;
/// let wanted = Attributes::PRIORITY | Attributes::FDS;
/// assert_eq!(wanted - queue, Attributes::FDS);
/// assert_eq!((wanted - queue).to_string(), "file descriptors");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes(u8);

impl Attributes {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// A priority, as in a POSIX message queue.
    pub const PRIORITY: Self = Self(1);
    /// A type tag, as in a SysV message queue.
    pub const KIND: Self = Self(1 << 1);
    /// The sender's pid, uid and gid.
    pub const CREDENTIALS: Self = Self(1 << 2);
    /// File descriptors.
    pub const FDS: Self = Self(1 << 3);
    /// All of them.
    pub const ALL: Self = Self((1 << 4) - 1);

    const NAMES: [(Self, &'static str); 4] = [
        (Self::PRIORITY, "priority"),
        (Self::KIND, "kind"),
        (Self::CREDENTIALS, "credentials"),
        (Self::FDS, "file descriptors"),
    ];

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Attributes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Attributes {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl BitAnd for Attributes {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for Attributes {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (attribute, name) in Self::NAMES {
            if self.contains(attribute) {
                write!(f, "{separator}{name}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attributes({self})")
    }
}

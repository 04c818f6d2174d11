//! The text of one element ⇄ a value, and a macro that declares a struct together with the names of its elements.
//!
//! Read leniently: a text that is no value counts as absent. Not here: elements and their order in a message.

use super::xml::{Element, Writer};

/// What the text of an element can be.
pub trait Field: Sized {
    /// `None`: absent.
    fn read(text: &str) -> Option<Self>;
    /// Empty: absent.
    fn write(&self) -> String;
    fn is_absent(&self) -> bool;
    #[cfg(test)]
    fn sample(random: &mut super::tests::Random) -> Self;
}

impl Field for String {
    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn write(&self) -> String {
        self.clone()
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    #[cfg(test)]
    fn sample(random: &mut super::tests::Random) -> Self {
        random.text()
    }
}

impl<T: Value> Field for Option<T> {
    fn read(text: &str) -> Option<Self> {
        Some(T::read(text))
    }

    fn write(&self) -> String {
        self.as_ref().map(T::write).unwrap_or_default()
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }

    #[cfg(test)]
    fn sample(random: &mut super::tests::Random) -> Self {
        (random.below(3) != 0).then(|| T::sample(random))
    }
}

/// A value that is never absent by itself.
pub trait Value: Sized {
    fn read(text: &str) -> Option<Self>;
    fn write(&self) -> String;
    #[cfg(test)]
    fn sample(random: &mut super::tests::Random) -> Self;
}

macro_rules! whole_numbers {
    ($($type:ty),*) => { $(
        impl Value for $type {
            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn write(&self) -> String {
                self.to_string()
            }

            #[cfg(test)]
            fn sample(random: &mut super::tests::Random) -> Self {
                random.below(u64::from(<$type>::MAX)) as $type
            }
        }
    )* };
}

whole_numbers!(u8, u16, u32, u64);

impl Value for f64 {
    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }

    fn write(&self) -> String {
        self.to_string()
    }

    #[cfg(test)]
    fn sample(random: &mut super::tests::Random) -> Self {
        random.below(360_000_000) as f64 / 1e6 - 180.0
    }
}

/// A closed set of words. The first word of each row is written, all are read, in any case.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $first:literal $(| $other:literal)*),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_meta])* $variant),* }

        impl $crate::protocol::gb28181::manscdp::field::Value for $name {
            fn read(text: &str) -> Option<Self> {
                $(if [$first $(, $other)*].iter().any(|word: &&str| word.eq_ignore_ascii_case(text)) {
                    return Some($name::$variant);
                })*
                None
            }

            fn write(&self) -> String {
                match self { $($name::$variant => $first.to_owned()),* }
            }

            #[cfg(test)]
            fn sample(random: &mut $crate::protocol::gb28181::manscdp::tests::Random) -> Self {
                *random.choose(&[$($name::$variant),*])
            }
        }
    };
}

/// A struct of which each field is an element. In JSON an absent field is left out.
macro_rules! elements {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty = $element:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[$field_meta])*
            #[serde(skip_serializing_if = "crate::protocol::gb28181::manscdp::field::Field::is_absent")]
            pub $field: $type),*
        }

        impl $crate::protocol::gb28181::manscdp::field::Elements for $name {
            fn read(parent: &$crate::protocol::gb28181::manscdp::xml::Element) -> Self {
                $name { $($field: $crate::protocol::gb28181::manscdp::field::read(parent, $element)),* }
            }

            fn write(&self, writer: &mut $crate::protocol::gb28181::manscdp::xml::Writer) {
                $(writer.text($element, &$crate::protocol::gb28181::manscdp::field::Field::write(&self.$field));)*
            }

            fn merge(&mut self, newer: Self) {
                $(if !$crate::protocol::gb28181::manscdp::field::Field::is_absent(&newer.$field) {
                    self.$field = newer.$field;
                })*
            }

            #[cfg(test)]
            fn sample(random: &mut $crate::protocol::gb28181::manscdp::tests::Random) -> Self {
                $name { $($field: $crate::protocol::gb28181::manscdp::field::Field::sample(random)),* }
            }
        }
    };
}

pub(super) use {elements, words};

/// What [`elements!`] makes of a struct.
pub trait Elements: Sized {
    /// Of the children of `parent`.
    fn read(parent: &Element) -> Self;
    fn write(&self, writer: &mut Writer);
    /// Takes over what is there of `newer`.
    fn merge(&mut self, newer: Self);
    #[cfg(test)]
    fn sample(random: &mut super::tests::Random) -> Self;
}

/// A child as a value; absent if there is none.
pub fn read<T: Field + Default>(parent: &Element, name: &str) -> T {
    parent.child(name).and_then(|child| T::read(&child.text)).unwrap_or_default()
}

/// A child as a word or number.
pub fn value<T: Value>(parent: &Element, name: &str) -> Option<T> {
    T::read(&parent.child(name)?.text)
}

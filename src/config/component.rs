//! One struct per component, and from the same lines its reference: key, kind, default, meaning and reason.

use super::layers::Reader;

/// One configuration key.
#[derive(Debug)]
pub struct Field {
    /// Dotted, as in `--set` and TOML.
    pub key: &'static str,
    pub kind: &'static str,
    pub default: &'static str,
    /// Lines of documentation: meaning, unit, and the reason for the default.
    pub doc: &'static [&'static str],
}

impl Field {
    /// `copy.jobs` → `WALFERRY_COPY_JOBS`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("WALFERRY_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }
}

/// A struct of settings that knows its keys.
pub trait Component: Sized {
    /// The section of the reference page.
    const TITLE: &'static str;
    const ABOUT: &'static [&'static str];
    const FIELDS: &'static [Field];
    /// `None` when one of its values was wrong; the reader has noted which.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

/// Defines a component. The prefix ends with a dot, or is empty for keys at the top. Keys that somebody else has named are given in full:
/// `pub struct Name titled "title" { pub field as "full.key": Type = "default", }`.
macro_rules! component {
    (
        $(#[doc = $about:expr])*
        pub struct $name:ident titled $title:literal {
            $( $(#[doc = $doc:expr])* pub $field:ident as $key:literal : $type:ty = $default:literal, )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug)]
        pub struct $name { $( $(#[doc = $doc])* pub $field: $type, )* }

        impl $crate::config::Component for $name {
            const TITLE: &'static str = $title;
            const ABOUT: &'static [&'static str] = &[$($about),*];
            const FIELDS: &'static [$crate::config::Field] = &[$( $crate::config::Field {
                key: $key,
                kind: <$type as $crate::config::Value>::KIND,
                default: $default,
                doc: &[$($doc),*],
            }, )*];

            fn read(reader: &mut $crate::config::Reader<'_>) -> Option<Self> {
                $( let $field = reader.value::<$type>($key, $default); )*
                Some(Self { $( $field: $field?, )* })
            }
        }
    };
    (
        $(#[doc = $about:expr])*
        pub struct $name:ident in $prefix:literal {
            $( $(#[doc = $doc:expr])* pub $field:ident : $type:ty = $default:literal, )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug)]
        pub struct $name { $( $(#[doc = $doc])* pub $field: $type, )* }

        impl $crate::config::Component for $name {
            const TITLE: &'static str = $prefix;
            const ABOUT: &'static [&'static str] = &[$($about),*];
            const FIELDS: &'static [$crate::config::Field] = &[$( $crate::config::Field {
                key: concat!($prefix, stringify!($field)),
                kind: <$type as $crate::config::Value>::KIND,
                default: $default,
                doc: &[$($doc),*],
            }, )*];

            fn read(reader: &mut $crate::config::Reader<'_>) -> Option<Self> {
                $( let $field = reader.value::<$type>(concat!($prefix, stringify!($field)), $default); )*
                Some(Self { $( $field: $field?, )* })
            }
        }
    };
}
pub(crate) use component;

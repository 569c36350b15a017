//! Declares the options of a command once: its settings, and the struct that holds their values.

/// Declares settings as the fields of the struct that holds their values.
///
/// ```
/// use trust_cli::{layers::Layers, options, values};
///
/// options! {
///     /// Options of `serve`.
///     pub struct Options of "serve" {
///         /// Port to listen on
///         PORT port: u16, values::PORT;
///         /// Clients at the same time
///         MAX_CLIENTS max_clients: u64 = "10", values::COUNT;
///         /// Print one JSON document and nothing else
///         JSON json: bool = off, values::SWITCH;
///     }
/// }
///
/// let options = Options::of(&Layers::default());
/// assert_eq!((options.port, options.max_clients, options.json), (None, 10, false));
/// assert_eq!(MAX_CLIENTS.flag(), "--max-clients");
/// assert_eq!(SETTINGS.len(), 3);
/// ```
///
/// The first paragraph of the comment is the text of `-h`, and all of it that of `--help`.
/// `group "Limits"` before it begins a group of settings; `rare "Shards"` one that `-h` leaves out.
/// The field's name with dashes is the flag. A field with a default has the given type, and a field
/// without one is an `Option` of it; a switch has the default `off`. Each setting also gets a
/// constant, to ask the layers where its value came from, and `SETTINGS` lists all of them. Without
/// `of`, the settings belong to all commands.
#[macro_export]
macro_rules! options {
    (
        $(#[$meta:meta])*
        $vis:vis struct $Options:ident $(of $command:literal)? {
            $(
                $(group $group:literal)? $(rare $rare:literal)?
                $(#[doc = $help:literal])+
                $NAME:ident $field:ident: $type:ty $(= $default:tt)?, $kind:expr;
            )+
        }
    ) => {
        const OWNER: Option<&'static str> = $crate::options!(@owner $($command)?);
        $(
            $(#[doc = $help])+
            $vis const $NAME: $crate::settings::Setting<$type> = {
                const FIELD: &str = stringify!($field);
                const KEY: [u8; FIELD.len()] = $crate::options::key(FIELD);
                let default = $crate::options!(@default $($default)?);
                let group = $crate::options!(@group $($group)? $(, rare $rare)?);
                let help = concat!($($help, "\n"),+);
                $crate::settings::Setting::new(OWNER, &KEY, $kind, default, help).begins(group)
            };
        )+
        /// All settings, in the order of `--help`.
        $vis const SETTINGS: &[&dyn $crate::settings::AnySetting] = &[$(&$NAME),+];

        $(#[$meta])*
        #[derive(Debug)]
        $vis struct $Options {
            $($(#[doc = $help])+ $vis $field: $crate::options!(@type $type $(, $default)?),)+
        }

        impl $Options {
            /// The strongest layer's value of each setting.
            $vis fn of(layers: &$crate::layers::Layers) -> $Options {
                $Options { $($field: $crate::options!(@value layers $NAME $($default)?)),+ }
            }
        }
    };
    (@group) => { None };
    (@group $title:literal) => {
        Some($crate::settings::Group { title: $title, is_rare: false })
    };
    (@group , rare $title:literal) => {
        Some($crate::settings::Group { title: $title, is_rare: true })
    };
    (@owner) => { None };
    (@owner $command:literal) => { Some($command) };
    (@default) => { None };
    (@default off) => { None };
    (@default $default:literal) => { Some($default) };
    (@type $type:ty) => { Option<$type> };
    (@type $type:ty, $default:tt) => { $type };
    (@value $layers:ident $NAME:ident) => { $layers.get(&$NAME) };
    (@value $layers:ident $NAME:ident off) => { $layers.get(&$NAME).unwrap_or(false) };
    (@value $layers:ident $NAME:ident $default:literal) => {
        $layers.get(&$NAME).expect("it has a default")
    };
}

/// The key for a field name, in bytes: `frame-timeout` for `frame_timeout`.
pub const fn key<const LEN: usize>(field: &str) -> [u8; LEN] {
    let mut key = [b'-'; LEN];
    let mut at = 0;
    while at < LEN {
        if field.as_bytes()[at] != b'_' {
            key[at] = field.as_bytes()[at];
        }
        at += 1;
    }
    key
}

//! How values are written into the `@skiff` lines of the console.

use core::fmt::{self, Display, Write};

/// Shows a value without spaces and control characters: those, and `%`, become `%` and two hexadecimal digits.
pub struct Escaped<'v, V: ?Sized>(pub &'v V);

impl<V: Display + ?Sized> Display for Escaped<'_, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escape(formatter), "{}", self.0)
    }
}

struct Escape<'f, 'b>(&'f mut fmt::Formatter<'b>);

impl Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                ' ' | '%' | '\0'..='\x1f' | '\x7f' => write!(self.0, "%{:02x}", character as u32)?,
                other => self.0.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Escaped;
    use proptest::prelude::*;

    #[test]
    fn spaces_and_line_ends_are_escaped() {
        assert_eq!(Escaped("index 5 out of\n100%").to_string(), "index%205%20out%20of%0a100%25");
    }

    proptest! {
        #[test]
        fn an_escaped_value_is_one_word(text: String) {
            let escaped = Escaped(&text).to_string();
            prop_assert!(!escaped.contains([' ', '\n', '\r', '\t']));
        }
    }
}

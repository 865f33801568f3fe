//! What descriptions are written in: paragraphs, lists, `code`, **strong** and *emphasis*.

use crate::http::pages::escaped;

/// Writes a description as HTML. Everything in it is escaped.
pub(super) fn paragraphs(text: &str) -> String {
    let mut html = String::new();
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let is_list = block.trim_start().starts_with("- ");
        if is_list {
            html.push_str("<ul>");
            let items = block.trim_start().trim_start_matches("- ");
            for item in items.split("\n- ") {
                html.extend(["<li>", &inline(item), "</li>"]);
            }
            html.push_str("</ul>\n");
        } else {
            html.extend(["<p>", &inline(block), "</p>\n"]);
        }
    }
    html
}

/// Writes a line of a description as HTML. Everything in it is escaped.
pub(super) fn inline(text: &str) -> String {
    let mut html = String::new();
    // Between two backticks every second piece is code.
    for (index, piece) in text.trim().split('`').enumerate() {
        if index % 2 == 1 {
            html.extend(["<code>", &escaped(piece), "</code>"]);
        } else {
            html.push_str(&stressed(piece));
        }
    }
    html
}

fn stressed(text: &str) -> String {
    let mut html = String::new();
    for (index, strong) in text.split("**").enumerate() {
        let inner: String = strong
            .split('*')
            .enumerate()
            .map(|(index, piece)| {
                if index % 2 == 1 {
                    ["<em>", &escaped(piece), "</em>"].concat()
                } else {
                    escaped(piece)
                }
            })
            .collect();
        if index % 2 == 1 {
            html.extend(["<strong>", &inner, "</strong>"]);
        } else {
            html.push_str(&inner);
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_become_html_and_nothing_of_them_is_markup() {
        for (text, expected) in [
            ("plain", "<p>plain</p>\n"),
            ("a\n\nb", "<p>a</p>\n<p>b</p>\n"),
            ("- a\n- b\n  c", "<ul><li>a</li><li>b\n  c</li></ul>\n"),
            ("`a<b`", "<p><code>a&lt;b</code></p>\n"),
            (
                "**a** and *b*",
                "<p><strong>a</strong> and <em>b</em></p>\n",
            ),
            ("`*/*` <script>", "<p><code>*/*</code> &lt;script&gt;</p>\n"),
        ] {
            assert_eq!(paragraphs(text), expected, "{text}");
        }
    }
}

//! Columns of text for people.

/// A header and rows, aligned; columns of numbers to the right. Ends with a newline.
#[must_use]
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let columns = header.len();
    let width = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = header.iter().map(|title| width(title)).collect();
    let mut numeric = vec![!rows.is_empty(); columns];
    for row in &rows {
        for (i, cell) in row.iter().enumerate().take(columns) {
            widths[i] = widths[i].max(width(cell));
            numeric[i] &= cell.is_empty() || cell.starts_with(|c: char| c.is_ascii_digit());
        }
    }
    let line = |cells: &[&str]| {
        let mut line = String::new();
        for (i, cell) in cells.iter().enumerate() {
            let pad = " ".repeat(widths[i] - width(cell));
            if i > 0 {
                line.push_str("  ");
            }
            if numeric[i] {
                line.push_str(&pad);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&pad);
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut out = line(header);
    out.push_str(&line(&rule.iter().map(String::as_str).collect::<Vec<_>>()));
    for row in &rows {
        let mut cells: Vec<&str> = row.iter().map(String::as_str).take(columns).collect();
        cells.resize(columns, "");
        out.push_str(&line(&cells));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let rows = vec![vec!["a".into(), "1,000".into()], vec!["longer".into(), "2".into()]];
        assert_eq!(
            table(&["name", "rows"], rows),
            "name     rows\n------  -----\na       1,000\nlonger      2\n"
        );
    }
}

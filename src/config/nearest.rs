//! The known word that somebody probably meant.

/// ` (did you mean "…"?)`, or nothing when no word is near.
#[must_use]
pub fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|word| (distance(unknown, word), word))
        .min()
        .filter(|(distance, word)| *distance <= word.len() / 3 + 1)
        .map_or_else(String::new, |(_, word)| format!(" (did you mean \"{word}\"?)"))
}

/// Letters to insert, remove or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = above[0];
        above[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = above[j + 1];
            above[j + 1] = changed.min(above[j] + 1).min(diagonal + 1);
        }
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_near_and_nothing_else() {
        let known = || ["copy.jobs", "index.jobs", "name"].into_iter();
        assert_eq!(nearest("copy.jobz", known()), " (did you mean \"copy.jobs\"?)");
        assert_eq!(nearest("something.else.entirely", known()), "");
    }
}

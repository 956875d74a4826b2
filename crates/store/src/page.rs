//! Lists in parts.

/// Which part of a list to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The `next` of the page before; absent: the first page.
    pub after: Option<String>,
    /// How many items, 1 to 1,000; values outside are brought inside.
    pub limit: u32,
}

impl Page {
    /// The first `limit` items.
    pub const fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    pub(crate) fn rows(&self) -> i64 {
        i64::from(self.limit.clamp(1, 1000))
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paged<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where the next page begins; absent: this was the last.
    pub next: Option<String>,
}

impl<T> Paged<T> {
    /// From one row more than the page has, which tells whether there is a next page.
    pub(crate) fn cut(mut items: Vec<T>, page: &Page, cursor: impl Fn(&T) -> String) -> Self {
        let rows = usize::try_from(page.rows()).unwrap_or(usize::MAX);
        let more = items.len() > rows;
        items.truncate(rows);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next }
    }
}

//! Tables that fit the terminal: some columns are cut where it is narrow, some are hidden. In: cells, which may be text
//! from outside and are escaped here.

use crate::text::escape;
use std::io;

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, Width};

use super::output::Output;

/// Blanks between two columns.
const GAP: u16 = 2;

/// No cell is cut shorter, in characters.
const SHORTEST: usize = 8;

/// A column of a table.
pub(super) struct Column {
    title: &'static str,
    /// Aligned to the right.
    number: bool,
    narrow: Narrow,
}

/// What becomes of a column where the terminal is too narrow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Narrow {
    Keep,
    /// Its cells are cut, with an ellipsis.
    Cut,
    Hide,
}

impl Column {
    pub(super) const fn text(title: &'static str) -> Column {
        Column { title, number: false, narrow: Narrow::Keep }
    }

    pub(super) const fn number(title: &'static str) -> Column {
        Column { title, number: true, narrow: Narrow::Keep }
    }

    /// Cut where the terminal is too narrow.
    pub(super) const fn shrinking(self) -> Column {
        Column { narrow: Narrow::Cut, ..self }
    }

    /// Hidden where the terminal is too narrow.
    pub(super) const fn optional(self) -> Column {
        Column { narrow: Narrow::Hide, ..self }
    }

    fn measured(&self, index: usize, rows: &[Vec<String>]) -> Shown<'_> {
        let cells = rows.iter().filter_map(|cells| cells.get(index));
        let widest = cells.map(|cell| escape(cell).chars().count()).max().unwrap_or(0);
        let widest = if self.narrow == Narrow::Cut { widest.min(SHORTEST) } else { widest };
        let shortest = widest.max(self.title.len());
        Shown { column: self, index, shortest: u16::try_from(shortest).unwrap_or(u16::MAX) }
    }
}

/// A column that is shown.
struct Shown<'c> {
    column: &'c Column,
    index: usize,
    /// Characters that it needs at least.
    shortest: u16,
}

/// Prints rows under the titles of their columns.
pub(super) fn print(out: &mut Output, columns: &[Column], rows: &[Vec<String>]) -> io::Result<()> {
    let columns = fitting(columns, rows, out.width());
    let mut table = Table::new();
    table.load_style(NOTHING).set_truncation_indicator("…").style_text_only();
    table.set_header(columns.iter().map(|Shown { column, .. }| {
        let title = Cell::new(column.title);
        if out.has_colour() { title.add_attribute(Attribute::Bold) } else { title }
    }));
    for cells in rows {
        let shown = columns.iter().filter_map(|column| cells.get(column.index));
        let mut row = Row::from(shown.map(|cell| escape(cell)));
        row.max_height(1);
        table.add_row(row);
    }
    for (place, Shown { column, shortest, .. }) in columns.iter().enumerate() {
        let Some(shape) = table.column_mut(place) else { continue };
        shape.set_padding((0, if place + 1 < columns.len() { GAP } else { 0 }));
        shape.set_cell_alignment(if column.number { CellAlignment::Right } else { CellAlignment::Left });
        shape.set_constraint(match column.narrow {
            Narrow::Cut => ColumnConstraint::LowerBoundary(Width::Fixed(*shortest)),
            Narrow::Keep | Narrow::Hide => ColumnConstraint::ContentWidth,
        });
    }
    if let Some(width) = out.width() {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    if out.has_colour() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    for line in table.lines() {
        out.line(line.trim_end())?;
    }
    Ok(())
}

/// The columns that fit beside each other; where they do not, some are hidden, the last first.
fn fitting<'c>(columns: &'c [Column], rows: &[Vec<String>], width: Option<u16>) -> Vec<Shown<'c>> {
    let mut shown: Vec<Shown<'c>> = columns.iter().enumerate().map(|(i, column)| column.measured(i, rows)).collect();
    let Some(width) = width else { return shown };
    let needed =
        |shown: &[Shown<'_>]| shown.iter().map(|column| u32::from(column.shortest) + u32::from(GAP)).sum::<u32>();
    while needed(&shown) > u32::from(width) + u32::from(GAP) {
        let Some(place) = shown.iter().rposition(|shown| shown.column.narrow == Narrow::Hide) else { break };
        shown.remove(place);
    }
    shown
}

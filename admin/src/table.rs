//! Aligned columns, RocketMQ's way: headings begin with `#`, two blanks between columns, no lines and no colours.

/// Rows under their headings. A column of numbers is aligned to the right; `-` counts as one.
pub fn render<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let number = |cell: &str| cell == "-" || cell.parse::<f64>().is_ok();
    let columns = headings.map(|h| h.chars().count());
    let widths: [usize; N] = std::array::from_fn(|i| {
        let cells = rows.iter().map(|row| row[i].chars().count());
        cells.fold(columns[i], usize::max)
    });
    let right: [bool; N] = std::array::from_fn(|i| rows.iter().all(|row| number(&row[i])));
    let line = |cells: [&str; N]| {
        let padded: [String; N] = std::array::from_fn(|i| {
            let (cell, width) = (cells[i], widths[i]);
            match right[i] {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            }
        });
        format!("{}\n", padded.join("  ").trim_end())
    };
    let body = rows.iter().map(|row| line(row.each_ref().map(|c| &c[..])));
    std::iter::once(line(headings)).chain(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["broker-a", "7", "-", "x"].map(str::to_owned),
            ["ü", "1234567", "8", ""].map(str::to_owned),
        ];
        assert_eq!(
            render(["#Set", "#Term", "#Lag", "#Addr"], &rows),
            "#Set        #Term  #Lag  #Addr\n\
             broker-a        7     -  x\n\
             ü         1234567     8\n"
        );
    }
}

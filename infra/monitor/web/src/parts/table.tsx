/** A table that is sorted by a click on a head, where its column has a `sort`. */
import {
  type ColumnDef,
  getCoreRowModel,
  getSortedRowModel,
  type SortingState,
  useReactTable,
} from "@tanstack/react-table";
import { type ReactNode, useMemo, useState } from "react";

export interface Column<T> {
  head: string;
  cell: (row: T) => ReactNode;
  sort?: (row: T) => number | string;
  right?: boolean;
}

export function Table<T>({
  rows,
  columns,
  name,
  onRow,
  chosen,
  rowKey,
}: {
  rows: T[];
  columns: Column<T>[];
  name: string;
  onRow?: (row: T) => void;
  chosen?: (row: T) => boolean;
  rowKey: (row: T, index: number) => string;
}) {
  const [sorting, setSorting] = useState<SortingState>([]);
  const defs = useMemo<ColumnDef<T>[]>(
    () =>
      columns.map((one) => ({
        id: one.head,
        header: one.head,
        enableSorting: Boolean(one.sort),
        accessorFn: one.sort ?? (() => ""),
        sortDescFirst: Boolean(one.right),
      })),
    [columns],
  );
  const table = useReactTable({
    data: rows,
    columns: defs,
    state: { sorting },
    onSortingChange: setSorting,
    getCoreRowModel: getCoreRowModel(),
    getSortedRowModel: getSortedRowModel(),
    getRowId: rowKey,
    autoResetPageIndex: false, // there are no pages, and each reset would draw the table once more
  });
  return (
    <div className="scroll">
      <table aria-label={name}>
        <thead>
          <tr>
            {table.getFlatHeaders().map((header, i) => {
              const sorted = header.column.getIsSorted();
              return (
                <th
                  key={header.id}
                  scope="col"
                  className={columns[i]?.right ? "right" : ""}
                  aria-sort={sorted === "asc" ? "ascending" : sorted === "desc" ? "descending" : undefined}
                >
                  {header.column.getCanSort() ? (
                    <button type="button" onClick={header.column.getToggleSortingHandler()}>
                      {header.id}
                      {sorted === "asc" ? " ↑" : sorted === "desc" ? " ↓" : ""}
                    </button>
                  ) : (
                    header.id
                  )}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {table.getRowModel().rows.map((row) => (
            <tr
              key={row.id}
              className={[onRow ? "link" : "", chosen?.(row.original) ? "chosen" : ""].join(" ")}
              onClick={onRow ? () => onRow(row.original) : undefined}
            >
              {columns.map((one) => (
                <td key={one.head} className={one.right ? "right" : ""}>
                  {one.cell(row.original)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

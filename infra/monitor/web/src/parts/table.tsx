/** A table that sorts by its heads. */
import {
  type ColumnDef,
  flexRender,
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
  narrow?: boolean;
}

export function Table<T>({
  rows,
  columns,
  name,
  onRow,
  chosen,
  rowKey,
  first,
}: {
  rows: T[];
  columns: Column<T>[];
  name: string;
  onRow?: (row: T) => void;
  chosen?: (row: T) => boolean;
  rowKey: (row: T) => string;
  first?: SortingState;
}) {
  const [sorting, setSorting] = useState<SortingState>(first ?? []);
  const defs = useMemo<ColumnDef<T>[]>(
    () =>
      columns.map((one) => ({
        id: one.head,
        header: one.head,
        enableSorting: Boolean(one.sort),
        accessorFn: one.sort ?? (() => ""),
        cell: ({ row }) => one.cell(row.original),
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
  });
  const about = (id: string) => columns.find((one) => one.head === id);
  return (
    <div className="scroll">
      <table aria-label={name}>
        <thead>
          <tr>
            {table.getFlatHeaders().map((header) => {
              const sorted = header.column.getIsSorted();
              return (
                <th
                  key={header.id}
                  scope="col"
                  className={about(header.id)?.right ? "right" : ""}
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
              {row.getVisibleCells().map((cell) => (
                <td key={cell.id} className={about(cell.column.id)?.right ? "right" : ""}>
                  {flexRender(cell.column.columnDef.cell, cell.getContext())}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

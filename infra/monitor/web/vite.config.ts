import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  build: { target: "es2022", assetsInlineLimit: 0, chunkSizeWarningLimit: 2000, reportCompressedSize: false },
  test: { environment: "happy-dom", globals: false, testTimeout: 60_000 },
} as Parameters<typeof defineConfig>[0]);

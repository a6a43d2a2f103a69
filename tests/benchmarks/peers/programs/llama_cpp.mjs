// llama.cpp by node-llama-cpp, whose package carries a compiled library: answers of fixed lengths, many at once.
// Reads one JSON object from standard input: {model, threads, concurrent, context, jobs: [{prompt: [token], tokens}]}.
// Writes one JSON object: {seconds, tokens, first_ms: [per job]}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const entry = createRequire(`${process.argv[2]}/`).resolve("node-llama-cpp");
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry));
const asked = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({ build: "never", gpu: false, maxThreads: asked.threads, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: asked.model });
const context = await model.createContext({
    sequences: asked.concurrent, contextSize: asked.context, batchSize: 512, threads: asked.threads,
});

async function answer(sequence, job, first) {
    await sequence.clearHistory();
    let made = 0;
    for await (const _ of sequence.evaluate(job.prompt, { temperature: 0, yieldEogToken: true })) {
        if (++made === 1) first();
        if (made === job.tokens) break;
    }
    return made;
}

async function run(jobs, concurrent) {
    const left = jobs.entries(), firsts = [];
    const begun = performance.now();
    let tokens = 0;
    await Promise.all(sequences.slice(0, concurrent).map(async (sequence) => {
        for (const [number, job] of left) {
            const made = await answer(sequence, job, () => { firsts[number] = performance.now() - begun; });
            tokens += made; // after the wait: others add to it meanwhile
        }
    }));
    return { seconds: (performance.now() - begun) / 1000, tokens, first_ms: firsts };
}

const sequences = Array.from({ length: asked.concurrent }, () => context.getSequence());
await run(asked.jobs.slice(0, 2).map((job) => ({ ...job, tokens: 4 })), 2); // warm
process.stdout.write(JSON.stringify(await run(asked.jobs, asked.concurrent)));
process.exit(0);

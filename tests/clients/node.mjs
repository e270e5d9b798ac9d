// What two Node packages get for the texts on stdin, as JSON on stdout.
import { readFileSync } from "node:fs";
import { InferenceClient } from "@huggingface/inference";
import OpenAI from "openai";

const { url, texts } = JSON.parse(readFileSync(0, "utf8"));
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const hub = new InferenceClient();

const answer = await openai.embeddings.create({ model: "any", input: texts });
const plain = await openai.embeddings.create({ model: "any", input: texts, encoding_format: "float" });
const refused = await openai.embeddings.create({ model: "any", input: [] }).catch(error => error);
console.log(JSON.stringify({
  base64: answer.data.map(each => each.embedding),
  float: plain.data.map(each => each.embedding),
  usage: answer.usage,
  status: refused.status,
  param: refused.param,
  hub: await hub.featureExtraction({ endpointUrl: url, inputs: texts }),
  similarity: await hub.sentenceSimilarity({
    endpointUrl: url, inputs: { source_sentence: texts[0], sentences: texts.slice(1) },
  }),
}));

declare module "elkjs/lib/elk-api" {
  export { default } from "elkjs";
}

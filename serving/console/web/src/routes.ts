// The sections of the console and the roles that see them. The service checks every request by itself.

import type { ComponentType } from "preact";

export interface Section {
  path: string; // below /console
  en: string;
  zh: string;
  roles: string[];
  load: () => Promise<{ default: ComponentType }>;
}

export const SECTIONS: Section[] = [
  { path: "credit", en: "Households", zh: "农户授信", roles: ["bank"], load: () => import("./pages/credit") },
  { path: "companies", en: "Companies", zh: "科创企业", roles: ["bank"], load: () => import("./pages/companies") },
  { path: "slides", en: "Slides", zh: "切片", roles: ["clinic", "pathologist"], load: () => import("./pages/slides") },
  { path: "models", en: "Models", zh: "模型", roles: ["scientist"], load: () => import("./pages/models") },
  { path: "audit", en: "Audit", zh: "审计", roles: ["auditor"], load: () => import("./pages/audit") },
  { path: "operator", en: "Operations", zh: "运行", roles: ["operator"], load: () => import("./pages/operator") },
];

export const sectionsFor = (roles: string[]): Section[] => SECTIONS.filter((section) => section.roles.some((role) => roles.includes(role)));
